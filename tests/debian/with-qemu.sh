#!/usr/bin/env bash
# Adds QEMU, patchbay and TAP devices to the guest image with Debian, for tests in which that guest is the host.
#   tests/debian/with-qemu.sh IMAGE_DEBIAN IMAGE INTO
set -euo pipefail
umask 022

: "${PATCHBAY_BIN_DIR:?}"
debian=$1 image=$2 into=$3
tree=$(mktemp -d "$into/tree.XXXXXX")
trap 'rm -rf "$tree"' EXIT
qemu=$(command -v qemu-system-x86_64)

# The folder is resolved, since /lib is a link in the root file system.
add() { install -D -t "$tree$(realpath "$(dirname "$1")")" "$1"; }

add "$qemu"
for library in $(ldd "$qemu" | awk '$2 == "=>" {print $3} $1 ~ /^\// {print $1}'); do
  add "$library"
done
for rom in bios-256k.bin kvmvapic.bin efi-virtio.rom; do
  file=$(find -L /usr/share/qemu /usr/share/seabios /usr/lib/ipxe -name $rom -print -quit 2>/dev/null)
  install -D -m 644 "$file" "$tree/usr/share/qemu/$rom"
done
install -D -t "$tree/usr/bin" "$PATCHBAY_BIN_DIR/patchbay"
install -D -m 644 -t "$tree/opt" "$image"/kernels/*/lib/modules/*/kernel/drivers/net/tun.ko
(cd "$tree" && find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio --quiet --null -o -H newc) >"$into/qemu.cpio"
cat "$debian/initrd-with-tools.cpio" "$into/qemu.cpio" >"$into/initrd-with-tools.cpio"
rm "$into/qemu.cpio"
cp "$debian/vmlinux" "$into"
