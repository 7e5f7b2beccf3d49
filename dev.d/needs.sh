# shellcheck shell=bash
# What ./dev needs from the machine, and how each piece is found, installed or named.

CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/inshore"
FAILED=()
TIMES=()

die() { printf 'dev: %s\n' "$*" >&2; exit 1; }
say() { printf '\033[1m== %s\033[0m\n' "$*"; }

# step NAME COMMAND…: runs it, stops the script when it fails.
step() {
  local name=$1; shift
  say "$name"
  "$@" || die "$name failed"
}

# area NAME SECONDS COMMAND…: runs it under a wall budget; a failure or an overrun is remembered and reported at the end.
area() {
  local name=$1 budget=$2 started ended; shift 2
  say "$name (budget ${budget} s)"
  started=$(date +%s)
  if [ "$(type -t "$1")" = function ]; then
    "$@" || FAILED+=("$name")
  elif ! timeout --foreground --kill-after=10 "$((budget * 3))" "$@"; then
    FAILED+=("$name")
  fi
  ended=$(($(date +%s) - started))
  TIMES+=("$name ${ended}s of ${budget}s")
  if ((ended > budget)); then FAILED+=("$name (over its budget: ${ended} s of ${budget} s)"); fi
}

summary() {
  say "summary"
  printf '  %s\n' "${TIMES[@]}"
  if ((${#FAILED[@]})); then
    printf 'failed: %s\n' "${FAILED[@]}"
    exit 1
  fi
  echo "ok"
}

apt_install() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $* with apt"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  else
    die "missing: $*. Install it, for example: sudo apt-get install $*"
  fi
}

need_rust() {
  [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"
  command -v cargo >/dev/null || die "missing: Rust $(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml). Install it with rustup (https://rustup.rs) and run this again"
}

need_c() {
  command -v cc >/dev/null || apt_install gcc libc6-dev
}

need_python() {
  PYTHON=$(command -v python3 || true)
  [ -n "$PYTHON" ] || { apt_install python3 python3-venv; PYTHON=$(command -v python3); }
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "Python 3.10 or newer is needed; $("$PYTHON" --version) was found"
  "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
}

# What makes the sandbox of connectors; unshare and ip make the world in which it is tried.
need_sandbox() {
  command -v bwrap >/dev/null || apt_install bubblewrap
  command -v ip >/dev/null || apt_install iproute2
  command -v openssl >/dev/null || apt_install openssl
}

# The virtual environment of the oracles (independent readers), cached by the digest of its locked requirements.
need_venv() {
  need_python
  local digest; digest=$({ cat tests/python/requirements.txt; "$PYTHON" --version; } | sha256sum | cut -c1-16)
  VENV="$CACHE/oracles-$digest"
  [ -e "$VENV/ready" ] && return
  say "building the oracles' Python environment"
  rm -rf "$VENV"
  "$PYTHON" -m venv "$VENV"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check -r tests/python/requirements.txt
  touch "$VENV/ready"
}

# The test servers that speak like object stores: S3 from PyPI in an environment of its own, Azurite from npm. Google's is ours.
AZURITE_VERSION=3.37.0
need_stores() {
  need_python
  command -v npm >/dev/null || apt_install nodejs npm
  local requirements=tests/python/stores/requirements.txt digest
  digest=$({ cat "$requirements"; "$PYTHON" --version; echo "$AZURITE_VERSION"; } | sha256sum | cut -c1-16)
  STORES="$CACHE/stores-$digest"
  [ -e "$STORES/ready" ] && return
  say "building the environment of the object stores' test servers"
  rm -rf "$STORES"
  "$PYTHON" -m venv "$STORES"
  "$STORES/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
  npm install --silent --no-audit --no-fund --prefix "$STORES/azurite" "azurite@$AZURITE_VERSION" >/dev/null
  touch "$STORES/ready"
}

# The original Connector SDK, a peer of the conformance suite, in an environment of its own.
need_original() {
  need_python
  local requirements=tests/python/conformance/original/requirements.txt digest
  digest=$({ cat "$requirements"; "$PYTHON" --version; } | sha256sum | cut -c1-16)
  ORIGINAL="$CACHE/original-$digest"
  [ -e "$ORIGINAL/ready" ] && return
  say "building the environment of the original Connector SDK"
  rm -rf "$ORIGINAL"
  "$PYTHON" -m venv "$ORIGINAL"
  "$ORIGINAL/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$requirements"
  touch "$ORIGINAL/ready"
}

# cargo-deny comes from its own crate, once per cache.
DENY_VERSION=0.20.2
need_deny() {
  local root="$CACHE/cargo-deny-$DENY_VERSION"
  if ! [ -x "$root/bin/cargo-deny" ]; then
    say "building cargo-deny $DENY_VERSION (once; about 3 minutes)"
    cargo install --quiet --locked --no-default-features --version "$DENY_VERSION" --root "$root" --target-dir "$root/build" cargo-deny
    rm -rf "$root/build"
  fi
  CARGO_DENY="$root/bin/cargo-deny"
}
cargo_deny() { "$CARGO_DENY" "$@"; }

# Debian's browser, for the test of the dashboard; Playwright, which drives it, is in the virtual environment.
need_browser() {
  [ -x "${INSHORE_CHROMIUM:-/usr/bin/chromium}" ] || apt_install chromium
}
