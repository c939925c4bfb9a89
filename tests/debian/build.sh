#!/usr/bin/env bash
# Builds the guest image with Debian: systemd, udev, and programs that configure networks.
#   tests/debian/build.sh IMAGE INTO
# The kernel and the tests' programs are those of IMAGE and PATCHBAY_BIN_DIR. The root file system takes
# two minutes, so it is kept until this script or the list of packages changes.
set -euo pipefail
umask 022

: "${PATCHBAY_BIN_DIR:?run me by 'make image-debian'}"
here=$(dirname "$(realpath "$0")")
image=$(realpath "$1")
mkdir -p "$2"
into=$(realpath "$2")

SUITE=bookworm
# For the transport and the network card at boot, clients of DHCP, containers, and the tests' tools.
MODULES=(virtio_pci virtio_net vmw_vsock_virtio_transport vsock_loopback af_packet 8021q bonding bridge
  dummy macvlan veth ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh nf_conntrack nf_conntrack_netlink nf_nat)
PROGRAMS=(patchbay-execd patchbay-echo patchbay-hammer patchbay-intruder patchbay-kata-agent patchbay-baseline)
# Units that a boot needs. An emulated guest takes a second for ten others.
KEPT=(systemd-journald.service systemd-modules-load.service systemd-tmpfiles-setup.service
  systemd-udev-trigger.service systemd-udevd.service
  dbus.socket systemd-journald.socket systemd-journald-dev-log.socket systemd-udevd-control.socket
  systemd-udevd-kernel.socket dbus.service)
work=$(mktemp -d "$into/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Writes a tree as an archive, padded so that another one can follow.
pack() {
  (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio --quiet --null -o -H newc) >"$2"
  truncate -s %4 "$2"
}

mirror() {
  apt-cache policy | awk -v suite="$SUITE/" '/^ *[0-9]+ +https?:/ && index($3, suite) == 1 {print $2; exit}'
}

# Removes units that no boot needs, and files that no test uses.
trim() {
  cd "$1"
  for unit in usr/lib/systemd/system/*.target.wants/*; do
    [[ " ${KEPT[*]} " == *" ${unit##*/} "* ]] || rm -f "$unit"
  done
  rm -rf boot/* etc/systemd/system/* usr/lib/systemd/system-generators/* usr/lib/udev/hwdb.* usr/lib/locale \
    usr/lib/x86_64-linux-gnu/{gconv,perl*,libperl*} usr/bin/{perl*,nmtui*,localedef} usr/sbin/{ldconfig,tc} \
    usr/share/{bash-completion,bug,doc,gdb,info,lintian,locale,man,perl*,zoneinfo,zsh} \
    var/cache/* var/lib/{apt,dpkg}/*
  # Last in the path of the tests' commands.
  mkdir usr/local/lib/busybox
  chroot . /usr/bin/busybox --install -s /usr/local/lib/busybox
  ln -s /usr/lib/systemd/systemd init
}

build_root() {
  local root=$work/root packages
  packages=$(paste -sd, "$here/packages.txt")
  mmdebstrap --quiet --variant=essential --include="$packages" --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    "$SUITE" "$root" "$(mirror)"
  (trim "$root")
  pack "$root" "$work/root.cpio"
}

# Adds modules with their dependencies and an index, for udev and `modprobe`.
add_modules() {
  local tree=$1 kernel release file
  kernel=$(echo "$image"/kernels/*)
  release=$(basename "$kernel"/lib/modules/*)
  for file in $(/sbin/modprobe -d "$kernel" -S "$release" -a --show-depends "${MODULES[@]}" |
    awk '$1 == "insmod" {print $2}'); do
    install -D -m 644 -t "$tree/$(dirname "${file#"$kernel"}")" "$file"
  done
  cp "$kernel/lib/modules/$release"/modules.{builtin,builtin.modinfo,order} "$tree/lib/modules/$release"
  /sbin/depmod -b "$tree" "$release"
  # /lib is a link in the root file system.
  mv "$tree/lib/modules" "$tree/usr/lib"
  rmdir "$tree/lib"
}

build_ours() {
  local tree=$work/overlay/rootfs
  "$PATCHBAY_BIN_DIR/patchbay-sandbox" overlay "$work/overlay"
  for program in "${PROGRAMS[@]}"; do
    install -t "$tree/usr/bin" "$PATCHBAY_BIN_DIR/$program"
  done
  cp -a "$here/rootfs/." "$tree"
  # Of a checkout by another user or with another umask.
  chmod -R u=rwX,go=rX "$tree"
  chown -R 0:0 "$tree"
  add_modules "$tree"
  pack "$tree" "$work/ours.cpio"
}

key=$(cat "$0" "$here/packages.txt" | sha256sum)
if [ "$key" != "$(cat "$into/root.key" 2>/dev/null)" ]; then
  build_root
  mv "$work/root.cpio" "$into"
  echo "$key" >"$into/root.key"
fi
build_ours
cat "$into/root.cpio" "$work/ours.cpio" >"$work/initrd"
mv "$work/initrd" "$into/initrd-with-tools.cpio"
cp "$image/vmlinux" "$work"
mv "$work/vmlinux" "$into"
