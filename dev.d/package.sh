# shellcheck shell=bash
# Turns the staged product into a deb and a tarball, from one tree that mirrors the installed system. The same input gives
# the same bytes: sorted names, clamped times, no owner, no build paths of its own.

# package: what `./dev package` does.
package() {
  need_rust; need_c; need_python
  build_stage release
  say "packaging"
  local out=$PWD/target/package
  rm -rf "$out"
  package_tree "$STAGE" "$out/tree"
  package_deb "$out/tree" "$out"
  package_tar "$out/tree" "$out"
  rm -rf "$out/tree"
  (cd "$out" && for file in *.deb *.tar.gz; do sha256sum "$file" >"$file.sha256"; done && du -h -- *.deb *.tar.gz)
  echo "sign with: minisign -S -H -s KEY -m FILE, on the machine that holds the key"
}

package_version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml; }

package_arch() {
  case "$(uname -m)" in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) die "no package for $(uname -m); one of: x86_64 aarch64" ;;
  esac
}

# The time that every packaged file carries: SOURCE_DATE_EPOCH, else that of the commit.
package_epoch() { echo "${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1)}"; }

# package_tree STAGED TREE: the installed system, owner and times apart.
package_tree() {
  local staged=$1 tree=$2 doc=$2/usr/share/doc/inshore
  rm -rf "$tree"
  mkdir -p "$tree/etc/inshore" "$tree/usr/lib/systemd/system" "$tree/usr/lib/sysusers.d" "$tree/usr/lib/tmpfiles.d"
  cp -r packaging/root/. "$staged/." "$tree/"
  cp config/agent.toml config/policy.toml config/control.toml "$tree/etc/inshore/"
  cp systemd/*.service "$tree/usr/lib/systemd/system/"
  cp systemd/sysusers.d/*.conf "$tree/usr/lib/sysusers.d/"
  cp systemd/tmpfiles.d/*.conf "$tree/usr/lib/tmpfiles.d/"
  mkdir -p "$doc/examples"
  cp systemd/lake-on-local-disk.conf "$doc/examples/"
  cp packaging/copyright "$doc/"
  cp -r docs/errors "$doc/"
  "${PYTHON:-python3}" packaging/third_party.py | gzip -9n >"$doc/third-party.txt.gz"
  mkdir -p "$tree/usr/share/man/man1" "$tree/usr/share/man/man8"
  gzip -9nc packaging/man/inshore.1 >"$tree/usr/share/man/man1/inshore.1.gz"
  gzip -9nc packaging/man/inshore-control.8 >"$tree/usr/share/man/man8/inshore-control.8.gz"
  package_changelog | gzip -9n >"$doc/changelog.gz"
  find "$tree" -type d -name __pycache__ -prune -exec rm -rf {} +
  find "$tree" -type d -exec chmod 0755 {} + -o -type f -exec chmod 0644 {} +
  chmod 0755 "$tree"/usr/bin/*
}

package_changelog() {
  printf 'inshore (%s) unstable; urgency=medium\n\n' "$(package_version)"
  printf '  * Version %s. What changed: CHANGELOG.md in the source.\n\n' "$(package_version)"
  printf ' -- %s  %s\n' "$(sed -n 's/^Maintainer: //p' packaging/deb/control)" "$(date -uR -d "@$(package_epoch)")"
}

# package_deb TREE OUT: needs dpkg-deb alone. PACKAGE_COMPRESSION=none is for tests, which care for what is inside.
package_deb() {
  local tree=$1 out=$2 deb=$2/deb epoch
  epoch=$(package_epoch)
  rm -rf "$deb"
  cp -a "$tree" "$deb"
  mkdir "$deb/DEBIAN"
  (cd "$deb" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' md5sum) >"$deb/DEBIAN/md5sums"
  sed -e "s/@VERSION@/$(package_version)/" -e "s/@ARCH@/$(package_arch)/" -e "s/@LIBRARIES@/$(package_libraries "$tree")/" \
    -e "s/@SIZE@/$(du -ks --apparent-size --exclude=DEBIAN "$deb" | cut -f1)/" packaging/deb/control >"$deb/DEBIAN/control"
  cp packaging/deb/conffiles packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm "$deb/DEBIAN/"
  chmod 0755 "$deb/DEBIAN" "$deb/DEBIAN/"{postinst,prerm,postrm}
  chmod 0644 "$deb/DEBIAN/"{control,conffiles,md5sums}
  find "$deb" -exec touch -h -d "@$epoch" {} +
  SOURCE_DATE_EPOCH=$epoch dpkg-deb --root-owner-group "-Z${PACKAGE_COMPRESSION:-xz}" --build "$deb" \
    "$out/inshore_$(package_version)_$(package_arch).deb" >/dev/null
  rm -rf "$deb"
}

# The shared libraries that the binaries name, with the newest glibc symbol they use.
package_libraries() {
  local files=("$1"/usr/bin/inshore "$1"/usr/bin/inshore-control "$1"/usr/lib/inshore/sdk/*.so) glibc needed
  command -v objdump >/dev/null || die "missing: objdump. Install it, for example: sudo apt-get install binutils"
  glibc=$(objdump -T "${files[@]}" | grep -o 'GLIBC_2[.0-9]*' | sed 's/GLIBC_//' | sort -uV | tail -n1)
  needed=$(objdump -p "${files[@]}" | sed -n 's/^ *NEEDED *//p' | sort -u)
  [ -n "$glibc" ] || die "no glibc symbol in ${files[*]}: are these the built binaries?"
  printf 'libc6 (>= %s)' "$glibc"
  while read -r library; do
    case "$library" in
      libc.so.6 | libm.so.6 | libpthread.so.0 | libdl.so.2 | librt.so.1 | ld-linux*) ;;
      libgcc_s.so.1) printf ', libgcc-s1' ;;
      *) die "the binaries need $library, and no package of the deb's Depends has it" ;;
    esac
  done <<<"$needed"
}

# package_tar TREE OUT: for hosts without dpkg: unpack at / (an upgrade: its usr alone), then systemd-sysusers and
# systemd-tmpfiles --create.
package_tar() {
  local tree=$1 out=$2
  cp LICENSE "$tree/usr/share/doc/inshore/"
  chmod 0644 "$tree/usr/share/doc/inshore/LICENSE"
  tar --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$(package_epoch)" -C "$tree" -c etc usr |
    gzip -9n >"$out/inshore-$(package_version)-$(package_arch).tar.gz"
}

# What packaging/tests/test_package.py needs: its tools, and a clean Debian to install into.
need_package() {
  local tool
  command -v debootstrap >/dev/null || apt_install debootstrap
  command -v systemd-nspawn >/dev/null || apt_install systemd-container
  command -v systemd-analyze >/dev/null || apt_install systemd
  command -v minisign >/dev/null || apt_install minisign
  for tool in dpkg-deb openssl objdump curl xz; do command -v "$tool" >/dev/null || apt_install dpkg openssl binutils curl xz-utils; done
  need_debian_root
  need_wheels
}

# What the SDK runtime puts into every connector's environment, for a host that has no package index.
need_wheels() {
  need_venv
  WHEELS="$CACHE/package-wheels"
  export WHEELS
  [ -e "$WHEELS/ready" ] && return
  rm -rf "$WHEELS"
  "$VENV/bin/pip" download --quiet --disable-pip-version-check --only-binary=:all: --platform any --implementation py --abi none \
    --python-version 3.11 --dest "$WHEELS" 'requests>=2,<3'
  touch "$WHEELS/ready"
}

# Built once (about a minute), never changed: the tests work on copies. Its name changes with what it holds.
DEBIAN_SUITE=bookworm
DEBIAN_PACKAGES=systemd,systemd-sysv,dbus,ca-certificates,curl,openssl,bubblewrap,python3,python3-venv
need_debian_root() {
  DEBIAN_ROOT="$CACHE/debian-root/$(echo "$DEBIAN_SUITE $DEBIAN_PACKAGES" | sha256sum | cut -c1-16)"
  export DEBIAN_ROOT
  [ -e "$DEBIAN_ROOT.ready" ] && return
  [ "$(id -u)" = 0 ] || die "the package test needs root: it installs into a Debian root of its own"
  say "building a clean Debian root (once; about a minute)"
  rm -rf "$DEBIAN_ROOT"
  mkdir -p "$(dirname "$DEBIAN_ROOT")"
  debootstrap --variant=minbase "--include=$DEBIAN_PACKAGES" "$DEBIAN_SUITE" "$DEBIAN_ROOT" >"$DEBIAN_ROOT.log" 2>&1 ||
    die "debootstrap failed; the end of $DEBIAN_ROOT.log: $(tail -n 3 "$DEBIAN_ROOT.log")"
  rm -f "$DEBIAN_ROOT"/var/cache/apt/archives/*.deb
  ln -s /dev/null "$DEBIAN_ROOT/etc/systemd/system/systemd-firstboot.service"
  touch "$DEBIAN_ROOT.ready"
}
