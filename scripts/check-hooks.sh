#!/usr/bin/env bash
# Builds guest images in a fresh Debian root, by the blocks of docs/guest-images.md as printed, and boots them.
#   scripts/check-hooks.sh PACKAGES [initramfs_tools|dracut|mkosi|verity|agent_init|extension]...
# PACKAGES has the .deb files of this machine's architecture, amd64. Takes 20 minutes without KVM.
set -euo pipefail
packages=$(realpath "$1")
shift
cd "$(dirname "$0")/.."
: "${PATCHBAY_BIN_DIR:?run me by 'make check-hooks'}"
PAGE=docs/guest-images.md
work=$(mktemp -d)
root=$work/root
VM_DIR=$work/vm VM_NETNS=patchbay-hooks-$$
# shellcheck source=scripts/guest-vm.sh
. scripts/guest-vm.sh

make_root() {
  local include=systemd-sysv,udev,kmod,iproute2,busybox,cpio,zstd,fdisk,linux-image-cloud-amd64
  include+=,initramfs-tools,dracut-core,cryptsetup-bin,e2fsprogs,erofs-utils,mkosi
  mmdebstrap --quiet --variant=minbase --include="$include" bookworm "$root" "$(mirror)"
  mkdir "$root/build"
  cp "$packages"/patchbay-{agent,sandbox}_*_amd64.deb "$root/build"
  chroot "$root" sh -c 'dpkg -i /build/*.deb' >/dev/null 2>&1
  # systemd-nspawn needs the ID.
  rm -f "$root/etc/machine-id"
  chroot "$root" systemd-machine-id-setup 2>/dev/null
  kernel=$(echo "$root"/boot/vmlinuz-*)
  release=${kernel##*/vmlinuz-}
}

# Runs the script of a build in the root, with /dev, /proc and /sys in a mount namespace.
enter() {
  cp /etc/resolv.conf /etc/hosts "$root/etc"
  # shellcheck disable=SC2016
  unshare --mount --propagation private bash -ec '
    mount --bind "$1" "$1"
    mount --rbind /dev "$1/dev"
    mount --rbind /sys "$1/sys"
    mount -t proc proc "$1/proc"
    cd "$1" && exec chroot . bash -e /build/block.sh' - "$root" </dev/null
}

# Runs the blocks below a heading of the page in the folder /build of the root.
build() {
  local script=$root/build/block.sh
  awk -v heading="## $1" '/^## /{on = $0 == heading} /^```$/{block = 0} on && block; /^```sh$/{block = 1}' $PAGE >"$script"
  [ -s "$script" ] || fail "$PAGE has no blocks below '$1'"
  sed -i "1i cd /build; MIRROR=$(mirror)" "$script"
  # /proc has no systemd of the root as process 1.
  sed -i 's/^mkosi /&--nspawn-keep-unit /' "$script"
  enter >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; fail "'$1' ends with an error"; }
}

# Takes a list of files; the modules are those that this kernel has.
assert_complete() {
  local list=$1 module
  grep -q 'usr/bin/patchbay-agent$' "$list" || fail "$list has no agent"
  while read -r module; do
    ! chroot "$root" modinfo -k "$release" -n "$module" 2>/dev/null | grep -q '\.ko' ||
      grep -Eq "/${module//_/[_-]}\.ko" "$list" || fail "$list has no $module"
  done <guest-image/hooks/modules
}

# Boots an initramfs, whose agent ends once a disk with the root file system is there.
take_over() {
  local initrd=$1 starts=$2
  [ -e "$work/disk" ] || mke2fs -q -t ext4 -L guest -d "$root" "$work/disk" 2G >/dev/null
  vm_start "$kernel" "$initrd" "root=LABEL=guest rw" -snapshot -drive "file=$work/disk,format=raw,if=none,id=root"
  vm_serves
  vm_plug_disk
  vm_console 'Started .*patchbay-agent.service' "$starts"
  vm_has_all
  vm_stop
}

initramfs_tools() {
  local initrd=$root/boot/initrd.img-$release
  ! chroot "$root" lsinitramfs "/boot/initrd.img-$release" | grep -q bin/patchbay-agent ||
    fail "the hook adds the agent without AGENT=yes"
  build initramfs-tools
  chroot "$root" lsinitramfs "/boot/initrd.img-$release" >"$work/initramfs-tools"
  assert_complete "$work/initramfs-tools"
  vm_start "$kernel" "$initrd" boot=patchbay
  vm_serves
  vm_stop
  take_over "$initrd" 1
}

dracut() {
  build dracut
  chroot "$root" lsinitrd /boot/initramfs.img >"$work/dracut"
  sed -n 's/.* \(usr\/.*\)/\1/p' "$work/dracut" >"$work/dracut-files"
  assert_complete "$work/dracut-files"
  take_over "$root/boot/initramfs.img" 2
}

mkosi() {
  cp guest-image/hooks/mkosi/mkosi.conf "$root/build"
  build mkosi
  vm_start "$root/build/vmlinuz" "$root/build/guest.cpio" rdinit=/usr/lib/systemd/systemd
  vm_serves
  vm_stop
  rm -rf "$root/build"/{overlay,guest.cpio,mkosi.*}
}

# Copies the root without its folder /build to /build/NAME.
copy_root() {
  mkdir "$root/build/$1"
  tar -C "$root" --one-file-system --exclude=./build -c . | tar -C "$root/build/$1" -x
}

disks() { printf -- '-drive file=%s,format=raw,if=virtio,read-only=on ' "$@"; }

verity() {
  local build=$root/build cmdline
  copy_root root
  build dm-verity
  cmdline=$(cat "$build/cmdline")
  # shellcheck disable=SC2046
  vm_start "$kernel" "$build/verity-initrd.img" "$cmdline" $(disks "$build/root.img" "$build/root.verity")
  vm_serves
  vm_stop
  cmdline=${cmdline/roothash=????/roothash=0000}
  # shellcheck disable=SC2046
  vm_start "$kernel" "$build/verity-initrd.img" "$cmdline" $(disks "$build/root.img" "$build/root.verity")
  vm_console 'is corrupted|Failed to (start|set up).*verity'
  vm_stop
  rm -rf "$build"/{root,root.img}
}

# An initramfs whose process 1 mounts what Kata's agent mounts.
agent_init() {
  local tree=$root/build/rootfs
  build initramfs-tools
  chroot "$root" unmkinitramfs "/boot/initrd.img-$release" /build/rootfs
  [ ! -d "$tree/main" ] || { mv "$tree" "$tree.parts"; mv "$tree.parts/main" "$tree"; }
  rm -f "$tree/usr/bin/patchbay-agent" "$tree/init"
  mkdir -p "$tree"/{dev,proc,run,sys}
  install -D -m 755 /dev/stdin "$tree/sbin/init" <<'END'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
while :; do sleep 3600; done
END
  build "Kata's osbuilder"
  (cd "$tree" && find . -print0 | cpio --quiet --null -o -H newc) >"$work/agent-init.cpio"
  vm_start "$kernel" "$work/agent-init.cpio" rdinit=/sbin/init
  vm_serves
  vm_stop
}

# Does what Kata's unit and script of that name do.
fake_mount_unit() {
  local units=$1/etc/systemd/system
  mkdir -p "$units/multi-user.target.wants"
  cat >"$units/kata-extension-mount@.service" <<'END'
[Unit]
DefaultDependencies=no
After=local-fs-pre.target
ConditionKernelCommandLine=kata.extension.%i.verity_params

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/mount-extension %i
END
  ln -s ../kata-extension-mount@.service "$units/multi-user.target.wants/kata-extension-mount@patchbay.service"
  install -D -m 755 /dev/stdin "$1/usr/local/sbin/mount-extension" <<'END'
#!/bin/sh
set -e
params=$(sed "s/.*kata.extension.$1.verity_params=\([^ ]*\).*/\1/" /proc/cmdline)
field() { echo "$params" | tr , '\n' | sed -n "s/^$1=//p"; }
disk=$(grep -lx "extension-$1" /sys/block/*/serial | cut -d / -f 4)
veritysetup open --no-superblock "/dev/${disk}1" "extension-$1" "/dev/${disk}2" "$(field root_hash)" --salt="$(field salt)" \
  --data-blocks="$(field data_blocks)"
mkdir -p "/run/kata-extensions/$1"
mount -t erofs -o ro "/dev/mapper/extension-$1" "/run/kata-extensions/$1"
END
}

extension() {
  local build=$root/build
  copy_root base
  build "Kata's extension images"
  [ -L "$build/base/usr/bin/patchbay-agent" ] || fail "the base image has the agent"
  fake_mount_unit "$build/base"
  mke2fs -q -t ext4 -L base -d "$build/base" "$work/base.img" 2G >/dev/null
  # The initramfs has no agent.
  rm -rf "$root/etc/patchbay"
  chroot "$root" update-initramfs -u -k all >/dev/null
  vm_start "$kernel" "$root/boot/initrd.img-$release" \
    "root=LABEL=base rw kata.extension.patchbay.verity_params=$(cat "$build/verity_params")" \
    -drive "file=$work/base.img,format=raw,if=virtio,snapshot=on" \
    -drive "file=$build/extension.img,format=raw,if=none,id=extension,read-only=on" \
    -device virtio-blk-pci,drive=extension,serial=extension-patchbay
  vm_serves
  vm_stop
  rm -rf "$build"/{base,overlay,extension}
}

ip netns add "$VM_NETNS"
make_root
[ $# -gt 0 ] || set -- initramfs_tools dracut mkosi verity agent_init extension
for step; do
  "$step"
  printf 'check-hooks: %s: ok\n' "$step"
done
