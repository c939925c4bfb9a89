#!/usr/bin/env bash
# Checks the packages of an architecture: lintian, rpmlint, and installing, upgrading, removing and purging them in a
# fresh Debian root, whose programs build a guest and plug the first card of the guide.
#   scripts/check-packages.sh PACKAGES amd64|arm64
# Programs of another architecture than this machine's run by qemu-user, which the kernel starts meanwhile.
set -euo pipefail
packages=$(realpath "$1") arch=$2
cd "$(dirname "$0")/.."
: "${PATCHBAY_BIN_DIR:?run me by 'make check-packages'}"
work=$(mktemp -d)
root=$work/root
netns=patchbay-packages-$$
id=6ec7a98bb
binfmt=/proc/sys/fs/binfmt_misc
declare -A machines=([amd64]=x86_64 [arm64]=aarch64)
machine=${machines[$arch]}
export PATCHBAY_RUN_DIR=$work/run PATCHBAY_IMAGE_DIR=$root/image

fail() { printf 'check-packages: %s\n' "$*" >&2; exit 1; }

clean_up() {
  trap '' INT TERM
  [ ! -e "$binfmt/$netns" ] || echo -1 >"$binfmt/$netns" || true
  [ -z "${is_mounted-}" ] || umount "$binfmt" || true
  [ ! -e "$work/run" ] || sandbox stop "$id" >/dev/null 2>&1 || true
  ip netns del "$netns" 2>/dev/null || true
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Returns the URI of a suite among the sources of this machine.
mirror() {
  apt-cache policy | awk -v suite="$1" '/^ *[0-9]+ +https?:/ && index($3, suite "/") == 1 {print $2; exit}'
}

# Registers qemu-user for the programs of arm64, by their ELF headers.
emulate() {
  [ "$machine" != "$(uname -m)" ] || return 0
  [ "$machine" = aarch64 ] || fail "programs of $arch can't run on this machine"
  if [ ! -e "$binfmt/register" ]; then
    mount -t binfmt_misc none "$binfmt"
    is_mounted=1
  fi
  local magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  # F: the interpreter is opened now, since the root has none.
  echo ":$netns:M::$magic:$mask:$(command -v "qemu-$machine"):F" >"$binfmt/register"
}

lint() {
  lintian --allow-root --fail-on error,warning --suppress-tags bogus-mail-host "$packages"/*_{"$arch",all}.deb
  # Its own exit code is that of errors only.
  rpmlint -c packaging/rpmlint.toml "$packages"/*.{"$machine",noarch}.rpm >"$work/rpmlint" ||
    { cat "$work/rpmlint"; fail "rpmlint"; }
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

patchbay() { ip netns exec "$netns" "$root/usr/bin/patchbay" "$@"; }
# QEMU is that of this machine.
sandbox() { "$PATCHBAY_BIN_DIR/patchbay-sandbox" "$@"; }

# The first example of the guide, in a guest of the packages.
first_card() {
  local suite card
  card='{"device": "tap-test", "name": "eth-test", "IPAddresses": [{"address": "172.16.0.3", "mask": "16"}],
    "hwAddr": "02:42:20:6f:a3:69", "mtu": 1500, "queues": 5}'
  ip netns add "$netns"
  cp /etc/resolv.conf /etc/hosts "$root/etc"
  # The suites with the image's kernel.
  for suite in bookworm-updates bookworm-security; do
    [ -z "$(mirror $suite)" ] || echo "deb $(mirror $suite) $suite main"
  done >"$root/etc/apt/sources.list.d/updates.list"
  chroot "$root" apt-get -qq update
  # A static program finds itself in /proc.
  # shellcheck disable=SC2016
  unshare --mount --propagation private sh -ec \
    'mount -t proc proc "$1/proc"; exec chroot "$1" patchbay-sandbox build --image /image' - "$root"
  sandbox start "$id" --netns "$netns"
  patchbay kata-network add-iface 6ec7a98 - <<<"$card"
  ip -n "$netns" address add 172.16.0.1/16 dev tap-test
  ip -n "$netns" link set tap-test up
  ip netns exec "$netns" ping -c 3 -w 20 172.16.0.3 >/dev/null || fail "the guest does not answer"
  patchbay kata-network del-iface 6ec7a98 - <<<"$card"
  ! ip netns exec "$netns" ping -c 1 -w 2 172.16.0.3 >/dev/null 2>&1 || fail "the card stays"
  sandbox stop "$id"
}

debian() {
  local names=(patchbay patchbay-agent patchbay-sandbox patchbay-kubernetes)
  mmdebstrap --quiet --variant=minbase --arch="$arch" --skip=check/qemu --include=systemd,kmod bookworm "$root" "$(mirror bookworm)"
  mkdir "$root/packages"
  cp "$packages"/*_{"$arch",all}.deb "$root/packages"
  chroot "$root" sh -c "dpkg -i /packages/*.deb" >/dev/null
  programs_run
  [ "$(enabled | sort -u)" = enabled ] || fail "the agent's units are not enabled"
  first_card
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
  "${rpm[@]}" --nosignature --nodeps --ignorearch -i "$packages"/*.{"$machine",noarch}.rpm
  programs_run
  [ "$(enabled | sort -u)" = enabled ] || fail "the rpm does not enable the agent's units"
  "${rpm[@]}" -V --nodeps patchbay patchbay-agent patchbay-sandbox patchbay-kubernetes || fail "rpm -V"
  "${rpm[@]}" -e --nodeps patchbay-kubernetes patchbay patchbay-agent patchbay-sandbox
  left=$(find "$root/usr" "$root/etc" -xdev -name '*patchbay*' ! -type d)
  [ -z "$left" ] || fail "left after rpm -e: $left"
}

(cd "$packages" && sha256sum --quiet --check SHA256SUMS)
emulate
lint
debian
rpms
echo "packages of $arch: installed, used, upgraded, removed and purged"
