#!/usr/bin/env bash
# Makes packages of what `make install` has put below STAGE.
#   scripts/packages.sh ARCH STAGE INTO
# packaging/NAME has the fields and files of each package; the same bytes come from the same commit.
set -euo pipefail
arch=$1 stage=$(realpath "$2")
mkdir -p "$3"
into=$(realpath "$3")
cd "$(dirname "$0")/.."
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
MAINTAINER='patchbay maintainers <maintainers@patchbay.invalid>'
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
date=$(date -u -R -d "@$SOURCE_DATE_EPOCH")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

field() { sed -n "s/^$2: //p" "packaging/$1/control"; }

description() {
  sed -n '/^Description: /,$s/^\(Description:\)\? //p' "packaging/$1/control"
}

# Copies the files of a package from the stage to a tree.
fill() {
  local name=$1 tree=$2 pattern
  mkdir -p "$tree"
  while read -r pattern; do
    # Fails if a pattern has no file.
    (cd "$stage" && compgen -G "$pattern" | sort | xargs cp -a --parents -t "$tree")
  done <"packaging/$name/files"
  find "$tree" -path '*/man/*' -type f ! -name '*.gz' -exec gzip -9n {} +
  mkdir -p "$tree/usr/share/doc/$name"
  cp "$work/licenses.txt" "$tree/usr/share/doc/$name/third-party-licenses"
  gzip -9n "$tree/usr/share/doc/$name/third-party-licenses"
}

# Prints KiB by the rule of Debian's policy, which doesn't depend on the file system.
installed_size() {
  find "$1" -printf '%y %s\n' | awk '$1 == "f" {n += int(($2 + 1023) / 1024); next} {n++} END {print n}'
}

deb() {
  local name=$1 tree=$work/deb/$1 doc script of
  of=$(arch_of "$name")
  fill "$name" "$tree"
  doc=$tree/usr/share/doc/$name
  {
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n'
    printf 'Files: *\nCopyright: 2026 the patchbay maintainers\nLicense: Apache-2.0\n'
    printf ' On Debian systems, the text is in /usr/share/common-licenses/Apache-2.0.\n'
    printf ' The licenses of the libraries in the programs are in third-party-licenses.gz.\n'
  } >"$doc/copyright"
  printf '%s (%s) unstable; urgency=medium\n\n  * Changes are listed in CHANGELOG.md of the sources.\n\n -- %s  %s\n' \
    "$name" "$version" "$MAINTAINER" "$date" | gzip -9n >"$doc/changelog.gz"
  mkdir -p "$tree/DEBIAN" "$tree/usr/share/lintian/overrides"
  [ ! -e "packaging/$name/lintian-overrides" ] ||
    install -m 644 "packaging/$name/lintian-overrides" "$tree/usr/share/lintian/overrides/$name"
  {
    printf 'Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: %s\n' "$name" "$version" "$of" "$MAINTAINER"
    printf 'Installed-Size: %s\n' "$(installed_size "$tree")"
    sed -e '/^Summary: /d' -e '/^Architecture: /d' -e '/^Description: /,$d' -e "s/VERSION/$version/" "packaging/$name/control"
    printf 'Priority: optional\nDescription: %s\n' "$(field "$name" Summary)"
    description "$name" | sed 's/^/ /'
  } >"$tree/DEBIAN/control"
  (cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
  for script in postinst prerm postrm; do
    [ ! -e "packaging/$name/$script" ] || install -m 755 "packaging/$name/$script" "$tree/DEBIAN"
  done
  dpkg-deb --root-owner-group -Zxz --build "$tree" "$into/${name}_${version}_$of.deb" >/dev/null
}

rpm_arch() { [ "$arch" = arm64 ] && echo aarch64 || echo x86_64; }

# A package without programs has its own field.
arch_of() { field "$1" Architecture | grep . || echo "$arch"; }

rpm() {
  local name=$1 tree=$work/rpm/$1 spec=$work/$1.spec summary
  summary=$(field "$name" Summary)
  fill "$name" "$tree"
  install -D -m 644 LICENSE "$tree/usr/share/licenses/$name/LICENSE"
  {
    printf 'Name: %s\nVersion: %s\nRelease: 1\nSummary: %s\nLicense: Apache-2.0\n' \
      "$name" "${version/-/\~}" "${summary^}"
    printf 'Group: System Environment/Daemons\nPackager: %s\nAutoReqProv: no\n' "$MAINTAINER"
    [ "$name" != patchbay-kubernetes ] || printf 'Requires: patchbay = %s\n' "${version/-/\~}"
    [ "$(arch_of "$name")" != all ] || printf 'BuildArch: noarch\n'
    printf '\n%%description\n%s\n\n' "$(description "$name")"
    [ ! -e "packaging/$name/scriptlets" ] || cat "packaging/$name/scriptlets"
    printf '\n%%install\nmkdir -p %%{buildroot}\ncp -a %s/. %%{buildroot}\n' "$tree"
    printf '\n%%files\n%%defattr(-,root,root,-)\n'
    # Without the folders, removing the package leaves an empty module of dracut.
    (cd "$tree" && find . -type d -name '*patchbay*' -printf '%%dir /%P\n' -o \( -type f -o -type l \) -printf '/%P\n' | sort) |
      sed -e 's,^/usr/share/doc,%doc &,' -e 's,^/usr/share/licenses,%license &,'
    printf '\n%%changelog\n* %s %s - %s-1\n- Changes are listed in CHANGELOG.md of the sources.\n' \
      "$(LC_ALL=C date -u '+%a %b %d %Y' -d "@$SOURCE_DATE_EPOCH")" "$MAINTAINER" "${version/-/\~}"
  } >"$spec"
  rpmbuild --quiet -bb --target "$(rpm_arch)" --buildroot "$work/rpm-root/$name" \
    --define "_topdir $work/rpmbuild" --define "_rpmdir $into" --define '_rpmfilename %{name}-%{version}-%{release}.%{arch}.rpm' \
    --define '__os_install_post %{nil}' --define '_build_id_links none' --define 'debug_package %{nil}' \
    --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' \
    --define '_buildhost reproducible' --define '_binary_payload w9.xzdio' "$spec"
}

archive() {
  local name=patchbay-$version-linux-$arch
  mkdir -p "$work/$name"
  cp -a "$stage/usr/." "$work/$name"
  install -m 644 -t "$work/$name" LICENSE README.md CHANGELOG.md "$work/licenses.txt"
  tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -c "$name" |
    xz -T1 >"$into/$name.tar.xz"
}

python3 scripts/third-party-licenses.py >"$work/licenses.txt"
for folder in packaging/*/; do
  name=$(basename "$folder")
  deb "$name"
  rpm "$name"
done
archive
(cd "$into" && sha256sum -- *.deb *.rpm *.tar.xz >SHA256SUMS)
