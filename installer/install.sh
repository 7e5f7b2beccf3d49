#!/bin/sh
# Installs Inshore from one signed file and enrols this host. Nothing is unpacked before checksum and signature hold.
#
#   install.sh --package FILE|https://… --key KEY [--sha256 HEX] [--token-file FILE]
#
# KEY is the minisign public key (the line that begins with RW, or its file), got from us by another way than the package.
# PACKAGE.minisig lies beside PACKAGE, and so does PACKAGE.sha256 unless --sha256 is given. The join token is read from a
# file, never from the command line. The signature is checked by minisign, else by openssl 3, which nearly every host has;
# where neither can, nothing is installed.
set -eu
fail() { echo "install.sh: $*" >&2; exit 1; }

package='' key='' sha256='' token=''
while [ $# -gt 0 ]; do
    case "$1" in
        --package) package=${2-} ;; --key) key=${2-} ;; --sha256) sha256=${2-} ;; --token-file) token=${2-} ;;
        *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift; [ $# -gt 0 ] && shift
done
[ -n "$package" ] || fail "--package is missing: a local file or an https:// address"
[ -n "$key" ] || fail "--key is missing: without the publisher's public key nothing can be verified"
[ "$(id -u)" = 0 ] || fail "run this as root"
command -v dpkg >/dev/null || fail "dpkg is missing: this installer is for Debian and Ubuntu; elsewhere use the tarball"
[ -z "$token" ] || [ -r "$token" ] || fail "the token file $token cannot be read"
[ -z "$token" ] || [ -z "$(find -L "$token" -perm /077)" ] || fail "others can read the token file $token: chmod 600, and take a new token"
[ ! -f "$key" ] || key=$(sed -n '/^RW/p' "$key")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
file=$work/$(basename "$package")

fetch() { # SOURCE TARGET: a private copy, so that what was verified is what gets installed
    case "$1" in
        https://*)
            if command -v curl >/dev/null; then curl -fsSL --proto =https --tlsv1.2 -o "$2" "$1"
            elif command -v wget >/dev/null; then wget -q --https-only -O "$2" "$1"
            else fail "curl or wget is missing: fetch $1 by other means and pass the file"; fi ;;
        *://*) fail "$1 is not an https:// address" ;;
        *) cp -- "$1" "$2" ;;
    esac || fail "$1 cannot be fetched"
}

# ed25519 MESSAGE SIGNATURE: the key's raw 32 bytes, in their fixed DER frame.
ed25519() { openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/key.der" -rawin -in "$1" -sigfile "$2" >/dev/null 2>&1; }

verify_with_openssl() { # what `minisign -V -H` does: BLAKE2b-512 of the file is signed; so is the trusted comment
    printf %s "$key" | openssl base64 -d -A >"$work/key"
    sed -n 2p "$file.minisig" | openssl base64 -d -A >"$work/sig"
    sed -n 4p "$file.minisig" | openssl base64 -d -A >"$work/global"
    [ "$(wc -c <"$work/key") $(wc -c <"$work/sig") $(wc -c <"$work/global")" = "42 74 64" ] || return 1
    [ "$(head -c 2 "$work/key")$(head -c 2 "$work/sig")" = EdED ] || return 1
    { printf '\060\052\060\005\006\003\053\145\160\003\041\000'; tail -c 32 "$work/key"; } >"$work/key.der"
    tail -c 64 "$work/sig" >"$work/sig.raw"
    openssl dgst -blake2b512 -binary "$file" >"$work/hash" || return 1
    { cat "$work/sig.raw"; sed -n 3p "$file.minisig" | sed 's/^trusted comment: //' | tr -d '\n'; } >"$work/commented"
    ed25519 "$work/hash" "$work/sig.raw" && ed25519 "$work/commented" "$work/global"
}

fetch "$package" "$file"
fetch "$package.minisig" "$file.minisig"
[ -n "$sha256" ] || { fetch "$package.sha256" "$file.sha256"; sha256=$(cut -d' ' -f1 "$file.sha256"); }
[ "$(sha256sum "$file" | cut -d' ' -f1)" = "$sha256" ] || fail "the SHA-256 checksum of $package is not $sha256: nothing is installed"
if command -v minisign >/dev/null; then minisign -VHqm "$file" -x "$file.minisig" -P "$key"
elif openssl version 2>/dev/null | grep -q '^OpenSSL [3-9]'; then verify_with_openssl
else fail "neither minisign nor openssl 3 is here: the signature cannot be verified, nothing is installed"; fi ||
    fail "the signature of $package was not made by key $key: nothing is installed"

# An edited file in /etc stays as it is. Recommended packages that cannot be had (no network) are left out.
install() { DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Options::=--force-confold install -y "$@" "$file"; }
install || install --no-install-recommends || fail "the package could not be installed"
[ -n "$token" ] || { echo "Installed. Enrol: runuser -u inshore -- inshore enrol < TOKEN_FILE"; exit 0; }
runuser -u inshore -- inshore enrol <"$token" || fail "enrolment failed; the package stays installed"
[ ! -d /run/systemd/system ] || systemctl enable --now inshore-agent.service
