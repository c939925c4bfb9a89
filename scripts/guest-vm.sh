# shellcheck shell=bash
# Functions of scripts/check-hooks.sh and check-upgrade.sh that boot a guest, in the folder $VM_DIR, and check its agent.
# Links are made in the network namespace $VM_NETNS, which ends with the script, like the folder $work.

: "${work:?}" "${VM_DIR:?}" "${VM_NETNS:?}" "${PATCHBAY_BIN_DIR:?}"
export PATCHBAY_CONFIG=$VM_DIR/config.toml PATCHBAY_RUN_DIR=$VM_DIR/run
VM_RULE='-A -t 172.16.1.3:80 -s mh'
VM_PROCESSES=()

fail() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; exit 1; }

clean_up() {
  vm_stop
  ip netns del "$VM_NETNS" 2>/dev/null || true
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

mirror() {
  apt-cache policy | awk '/^ *[0-9]+ +https?:/ && $3 ~ /^bookworm\// {print $2; exit}'
}

# Starts a machine: vm_start KERNEL INITRD CMDLINE [QEMU'S OPTIONS].
vm_start() {
  local kernel=$1 initrd=$2 cmdline=$3 agent vsock
  shift 3
  rm -rf "$VM_DIR"
  mkdir -p "$VM_DIR/run"
  touch "$VM_DIR/console.log"
  if [ -e /dev/vhost-vsock ]; then
    vsock=(-device "vhost-vsock-pci,guest-cid=$$")
    agent=vsock://$$:961
  else
    vhost-device-vsock --guest-cid 10 --socket "$VM_DIR/vhost.sock" --uds-path "$VM_DIR/vsock.sock" >"$VM_DIR/vsock.log" 2>&1 &
    VM_PROCESSES+=($!)
    local end=$((SECONDS + 30))
    until [ -S "$VM_DIR/vhost.sock" ]; do
      [ $SECONDS -lt $end ] || fail "vhost-device-vsock has not started: $(cat "$VM_DIR/vsock.log")"
      sleep 0.1
    done
    vsock=(-chardev "socket,id=vsock,path=$VM_DIR/vhost.sock" -device "vhost-user-vsock-pci,chardev=vsock")
    agent=hvsock://$VM_DIR/vsock.sock:961
    cmdline+=" patchbay.host_port=any"
  fi
  printf '[sandboxes.vm]\nqmp = "%s"\nagent = "%s"\n' "$VM_DIR/qmp.sock" "$agent" >"$PATCHBAY_CONFIG"
  # /dev/kvm can exist where no guest runs.
  local accel=tcg
  ! grep -Eqw 'vmx|svm' /proc/cpuinfo || accel=kvm
  ip netns exec "$VM_NETNS" qemu-system-x86_64 -nodefaults -machine q35,memory-backend=mem -accel $accel -cpu max -smp 2 -m 2G \
    -object memory-backend-memfd,id=mem,size=2G,share=on -kernel "$kernel" -initrd "$initrd" \
    -append "console=ttyS0 systemd.show_status=1 systemd.status_unit_format=name $cmdline" \
    -device pcie-root-port,id=rp1,bus=pcie.0,addr=0x10,chassis=1 -device pcie-root-port,id=rp2,bus=pcie.0,addr=0x11,chassis=2 \
    "${vsock[@]}" -qmp "unix:$VM_DIR/qmp.sock,server=on,wait=off" \
    -display none -serial "file:$VM_DIR/console.log" "$@" >"$VM_DIR/qemu.log" 2>&1 &
  VM_PROCESSES+=($!)
}

vm_stop() {
  [ "${#VM_PROCESSES[@]}" -eq 0 ] || kill "${VM_PROCESSES[@]}" 2>/dev/null || true
  wait "${VM_PROCESSES[@]}" 2>/dev/null || true
  VM_PROCESSES=()
}

vm_fail() {
  cat "$VM_DIR/qemu.log" >&2
  tail -n 40 "$VM_DIR/console.log" | tr -d '\r\033' >&2
  fail "$1"
}

vm_patchbay() { ip netns exec "$VM_NETNS" "$PATCHBAY_BIN_DIR/patchbay" "$@"; }

# Repeats a command while the guest is busy with its boot.
vm_eventually() {
  local end=$((SECONDS + 300))
  until "$@" >"$VM_DIR/out" 2>&1; do
    [ $SECONDS -lt $end ] || vm_fail "$* : $(cat "$VM_DIR/out")"
    sleep 1
  done
}

vm_add_rule() { vm_patchbay ipvs vm -R --replace <<<"$VM_RULE"; }

# Plugs a card and adds a rule, which loads modules of IPVS.
vm_serves() {
  vm_eventually vm_patchbay wait vm --timeout 300
  vm_eventually vm_add_rule
  vm_patchbay nic add vm eth1 --tap tap1 --ip 172.16.1.3/24 --timeout 60 >/dev/null || vm_fail "no card"
  vm_has_all
  vm_patchbay doctor vm | grep -q 'agent .*patchbay-agent' || vm_fail "doctor finds no agent"
}

# The card and the rule are in the guest.
vm_has_all() {
  vm_eventually vm_patchbay kata-network list-ifaces vm
  grep -q '"name":"eth1".*172.16.1.3/24' "$VM_DIR/out" || vm_fail "no card: $(cat "$VM_DIR/out")"
  vm_eventually vm_patchbay ipvs vm -S -n
  grep -qe "$VM_RULE" "$VM_DIR/out" || vm_fail "no rule: $(cat "$VM_DIR/out")"
}

# Waits for a pattern on the console: vm_console PATTERN [TIMES].
vm_console() {
  local end=$((SECONDS + 600))
  until [ "$(grep -aEc "$1" "$VM_DIR/console.log")" -ge "${2:-1}" ]; do
    [ $SECONDS -lt $end ] || vm_fail "the console has no '$1'"
    sleep 1
  done
}

# Plugs the disk of the node `root` into the second port.
vm_plug_disk() {
  python3 - "$VM_DIR/qmp.sock" <<'END'
import json, socket, sys
monitor = socket.socket(socket.AF_UNIX)
monitor.connect(sys.argv[1])
lines = monitor.makefile("rw")
lines.readline()
device = {"driver": "virtio-blk-pci", "drive": "root", "bus": "rp2", "id": "root"}
for command, arguments in (("qmp_capabilities", {}), ("device_add", device)):
    lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    lines.flush()
    reply = {}
    while not reply.keys() & {"return", "error"}:
        reply = json.loads(lines.readline())
    if "error" in reply:
        sys.exit(str(reply))
END
}
