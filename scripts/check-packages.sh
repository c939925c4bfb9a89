#!/usr/bin/env bash
# Checks the packages of this machine's architecture: lintian, rpmlint, and installing, upgrading, removing and
# purging them in a fresh Debian root.
#   scripts/check-packages.sh PACKAGES
set -euo pipefail
packages=$(realpath "$1")
cd "$(dirname "$0")/.."
arch=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

fail() { printf 'check-packages: %s\n' "$*" >&2; exit 1; }

mirror() {
  apt-cache policy | awk '/^ *[0-9]+ +https?:/ && $3 ~ /^bookworm\// {print $2; exit}'
}

lint() {
  lintian --allow-root --fail-on error,warning --suppress-tags bogus-mail-host "$packages"/*.deb
  # Its own exit code is that of errors only.
  rpmlint -c packaging/rpmlint.toml "$packages"/*.rpm >"$work/rpmlint" || { cat "$work/rpmlint"; fail "rpmlint"; }
  ! grep -E ': [EW]: ' "$work/rpmlint" || fail "rpmlint warns"
}

# Programs of the packages in the root.
programs_run() {
  local program
  for program in patchbay patchbay-sandbox; do
    chroot "$root" "$program" --version | grep -q "^$program " || fail "$program does not run"
  done
  chroot "$root" env CNI_COMMAND=VERSION /usr/bin/patchbay-cni </dev/null | grep -q cniVersion || fail "no plugin"
}

enabled() { chroot "$root" systemctl is-enabled patchbay-agent.service patchbay-agent.socket; }

debian() {
  local names=(patchbay patchbay-agent patchbay-sandbox patchbay-kubernetes)
  mmdebstrap --quiet --variant=minbase --include=systemd bookworm "$root" "$(mirror)"
  mkdir "$root/packages"
  cp "$packages"/*_{"$arch",all}.deb "$root/packages"
  chroot "$root" sh -c "dpkg -i /packages/*.deb" >/dev/null
  programs_run
  [ "$(enabled | sort -u)" = enabled ] || fail "the agent's units are not enabled"
  # An administrator's decision survives an upgrade.
  chroot "$root" systemctl --quiet disable patchbay-agent.service
  chroot "$root" systemctl --quiet enable patchbay-watch.service
  chroot "$root" sh -c "dpkg -i /packages/*.deb" >/dev/null
  [ "$(enabled | head -1)" = disabled ] || fail "an upgrade enables the unit again"
  chroot "$root" dpkg --remove "${names[@]}" >/dev/null
  chroot "$root" dpkg --purge "${names[@]}" >/dev/null
  left=$(find "$root" -xdev -name '*patchbay*' ! -path "$root/packages/*" ! -path "$root/var/log/*")
  [ -z "$left" ] || fail "left after purge: $left"
}

# In the same root, whose files are not in rpm's database: the packages need /bin/sh, and systemctl if it exists.
rpms() {
  local rpm=(rpm --root "$root" --dbpath /var/lib/rpm)
  "${rpm[@]}" --initdb
  "${rpm[@]}" --nosignature --nodeps -i "$packages"/*.{"$(uname -m)",noarch}.rpm
  programs_run
  [ "$(enabled | sort -u)" = enabled ] || fail "the rpm does not enable the agent's units"
  "${rpm[@]}" -V --nodeps patchbay patchbay-agent patchbay-sandbox patchbay-kubernetes || fail "rpm -V"
  "${rpm[@]}" -e --nodeps patchbay-kubernetes patchbay patchbay-agent patchbay-sandbox
  left=$(find "$root/usr" "$root/etc" -xdev -name '*patchbay*' ! -type d)
  [ -z "$left" ] || fail "left after rpm -e: $left"
}

(cd "$packages" && sha256sum --quiet --check SHA256SUMS)
lint
debian
rpms
echo "packages of $arch: installed, upgraded, removed and purged"
