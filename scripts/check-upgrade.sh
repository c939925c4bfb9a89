#!/usr/bin/env bash
# Upgrades the packages of host and guest while the guest runs with a card and a rule, and purges those of the guest.
#   scripts/check-upgrade.sh PACKAGES [PREVIOUS]
# PREVIOUS has the .deb files of the version before; without it, they are those of PACKAGES with a lower version.
# The architecture is amd64. Takes three minutes without KVM.
set -euo pipefail
packages=$(realpath "$1")
work=$(mktemp -d)
previous=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."
root=$work/root
VM_DIR=$work/vm VM_NETNS=patchbay-upgrade-$$
# The programs are those of the packages.
export PATCHBAY_BIN_DIR=$root/usr/bin
# shellcheck source=scripts/guest-vm.sh
. scripts/guest-vm.sh

# Packs a package again with a version that is lower than its own.
make_previous() {
  local name=$1
  dpkg-deb -R "$packages/${name}"_*_amd64.deb "$work/tree"
  sed -i 's/^Version: .*/&~before/' "$work/tree/DEBIAN/control"
  dpkg-deb --root-owner-group -Znone --build "$work/tree" "$previous/${name}_before_amd64.deb" >/dev/null
  rm -rf "$work/tree"
}

install_in_root() {
  chroot "$root" sh -c "dpkg -i $1" >"$work/dpkg" 2>&1 || { cat "$work/dpkg" >&2; fail "dpkg -i $1"; }
}

# The root is that of the host's programs and, copied to a disk, that of the guest.
make_root() {
  local include=systemd-sysv,udev,kmod,iproute2,linux-image-cloud-amd64,initramfs-tools
  mmdebstrap --quiet --variant=minbase --include="$include" bookworm "$root" "$(mirror)"
  mkdir "$root/previous" "$root/new"
  cp "$previous"/patchbay_*_amd64.deb "$previous"/patchbay-agent_*_amd64.deb "$root/previous"
  cp "$packages"/patchbay_*_amd64.deb "$packages"/patchbay-agent_*_amd64.deb "$root/new"
  install_in_root '/previous/*.deb'
  upgrade_in_guest
  mke2fs -q -t ext4 -L guest -d "$root" "$work/disk" 2G >/dev/null
}

# A unit of the guest upgrades the agent at one MTU of the card, and purges it at another.
upgrade_in_guest() {
  install -D -m 755 /dev/stdin "$root/usr/local/sbin/upgrade" <<'END'
#!/bin/sh
mtu_is() { [ "$(cat /sys/class/net/eth1/mtu 2>/dev/null)" = "$1" ]; }
main_pid() { systemctl show -P MainPID patchbay-agent.service; }
until mtu_is 1400; do sleep 1; done
before=$(main_pid)
dpkg -i /new/patchbay-agent_*.deb && [ "$(main_pid)" != "$before" ] && echo 'agent: upgraded'
until mtu_is 1450; do sleep 1; done
dpkg --purge patchbay-agent && ! pidof patchbay-agent && echo 'agent: purged'
END
  install -D -m 644 /dev/stdin "$root/etc/systemd/system/upgrade.service" <<'END'
[Service]
ExecStart=/usr/local/sbin/upgrade
StandardOutput=journal+console
StandardError=journal+console
[Install]
WantedBy=multi-user.target
END
  chroot "$root" systemctl --quiet enable upgrade.service
}

# Runs patchbay of the root, which sees the machine's folder at its path.
vm_patchbay() {
  mkdir -p "$root$VM_DIR" "$root/run/netns"
  # shellcheck disable=SC2016
  ip netns exec "$VM_NETNS" unshare --mount --propagation private bash -ec '
    root=$1 dir=$2
    shift 2
    mount --bind "$root" "$root"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount -t proc proc "$root/proc"
    mount --rbind /run/netns "$root/run/netns"
    mount --bind "$dir" "$root$dir"
    cd "$root" && exec chroot . patchbay "$@"' - "$root" "$VM_DIR" "$@"
}

guest_replies() {
  ip netns exec "$VM_NETNS" ping -q -c 3 -i 0.2 -W 5 172.16.1.3 >/dev/null || vm_fail "no reply of the guest $1"
}

# shellcheck disable=SC2016
version_in_root() { chroot "$root" dpkg-query -W -f '${Version}' patchbay; }

if [ -z "$previous" ]; then
  previous=$work/previous
  mkdir "$previous"
  make_previous patchbay
  make_previous patchbay-agent
fi
ip netns add "$VM_NETNS"
make_root
old=$(version_in_root)
vm_start "$(echo "$root"/boot/vmlinuz-*)" "$(echo "$root"/boot/initrd.img-*)" 'root=LABEL=guest rw' \
  -drive "file=$work/disk,format=raw,if=virtio,snapshot=on"
vm_serves
ip -n "$VM_NETNS" addr add 172.16.1.1/24 dev tap1
guest_replies "before the upgrade"

install_in_root '/new/patchbay_*.deb'
[ "$(version_in_root)" != "$old" ] || fail "the host's package is still $old"
vm_has_all
guest_replies "after the upgrade of the host"

vm_patchbay nic set vm --name eth1 --mtu 1400 >/dev/null || vm_fail "no MTU of 1400"
vm_console 'agent: upgraded'
vm_has_all
guest_replies "after the upgrade of the agent"
vm_patchbay nic add vm eth2 --tap tap2 --ip 172.16.2.3/24 --timeout 60 >/dev/null || vm_fail "no second card"
vm_patchbay nic del vm --name eth2 >/dev/null || vm_fail "the second card stays"

vm_patchbay nic set vm --name eth1 --mtu 1450 >/dev/null || vm_fail "no MTU of 1450"
vm_console 'agent: purged'
guest_replies "after the agent was purged"
vm_patchbay nic del vm --name eth1 >/dev/null || vm_fail "the card stays without an agent"
echo "packages upgraded from $old to $(version_in_root) with a running guest, whose card and rule stayed"
