#!/bin/bash
# Puts patchbay's agent, its units and its kernel modules into the initramfs, if add_dracutmodules or --add names
# patchbay-agent. dracut sources this file, and has set the variables.
# shellcheck disable=SC2154

check() {
  require_binaries /usr/bin/patchbay-agent || return 1
  return 255
}

depends() {
  echo systemd
}

installkernel() {
  local modules
  mapfile -t modules </usr/lib/patchbay/modules
  # Those of the guest, which are not loaded where the image is built.
  hostonly='' instmods "${modules[@]}"
}

install() {
  local unit units=(patchbay-agent.service patchbay-agent.socket patchbay-modules.socket patchbay-modules@.service
    patchbay-netns.socket patchbay-netns@.service)
  inst_multiple /usr/bin/patchbay-agent
  for unit in "${units[@]}"; do
    inst_simple "$systemdsystemunitdir/$unit"
  done
  inst_rules 70-patchbay.rules
  inst_multiple -o /usr/lib/systemd/network/00-0-patchbay.network /usr/lib/systemd/network/00-0-patchbay.link
  # The kernel finds no module by the address family here: its aliases belong to the transports of other hypervisors.
  mkdir -p "$initdir/etc/modules-load.d"
  echo vmw_vsock_virtio_transport >"$initdir/etc/modules-load.d/patchbay-agent.conf"
  # Switching to the root file system stops both, and keeps their files in /run.
  $SYSTEMCTL -q --root "$initdir" add-wants initrd.target patchbay-agent.service
  $SYSTEMCTL -q --root "$initdir" add-wants sockets.target patchbay-agent.socket
}
