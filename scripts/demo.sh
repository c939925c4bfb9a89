#!/usr/bin/env bash
# Plugs a card into a running guest, sends traffic both ways, unplugs it. Uses a network namespace
# and a folder that it creates and removes.
set -euo pipefail

: "${PATCHBAY_BIN_DIR:?run me by 'make demo'}"

ID=6ec7a98bb
NETNS=patchbay-demo-$$
export PATCHBAY_RUN_DIR
PATCHBAY_RUN_DIR=$(mktemp -d /tmp/patchbay-demo.XXXXXX)
export PATH=$PATCHBAY_RUN_DIR/bin:$PATH

clean_up() {
  patchbay-sandbox stop "$ID" 2>/dev/null || true
  ip netns del "$NETNS" 2>/dev/null || true
  rm -rf "$PATCHBAY_RUN_DIR"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Prints a command, runs it, and prints its duration.
step() {
  local begun=${EPOCHREALTIME/./}
  printf '\n$ %s\n' "$1"
  bash -o pipefail -c "$1" </dev/null
  printf '  [%d ms]\n' $(((${EPOCHREALTIME/./} - begun) / 1000))
}

mkdir "$PATCHBAY_RUN_DIR/bin"
for program in patchbay patchbay-sandbox; do
  ln -s "$PATCHBAY_BIN_DIR/$program" "$PATCHBAY_RUN_DIR/bin/"
done
# The name of the incumbent's program.
ln -s "$PATCHBAY_BIN_DIR/patchbay" "$PATCHBAY_RUN_DIR/bin/kata-runtime"
cd "$PATCHBAY_RUN_DIR"

cat >test-iface.json <<'JSON'
{
    "device": "tap-test",
    "name": "eth-test",
    "IPAddresses": [
        {
            "address": "172.16.0.3",
            "mask": "16"
        }
    ],
    "hwAddr":"02:42:20:6f:a3:69",
    "mtu": 1500,
    "queues":5
}
JSON

ip netns add "$NETNS"
step "patchbay-sandbox start $ID --netns $NETNS --tools"
step "kata-runtime kata-network list-ifaces 6ec7a98"
step "cat ./test-iface.json"
step "cat ./test-iface.json | kata-runtime kata-network add-iface 6ec7a98 -"
step "kata-runtime kata-network list-ifaces 6ec7a98"
step "patchbay-sandbox exec $ID -- ip addr show eth-test"
step "patchbay-sandbox exec $ID -- ip route"
step "patchbay-sandbox exec $ID -- ethtool -l eth-test"
step "ip -n $NETNS addr add 172.16.0.1/16 dev tap-test"
step "ip netns exec $NETNS ping -c 3 172.16.0.3"
step "patchbay-sandbox exec $ID -- ping -c 3 172.16.0.1"
step "cat ./test-iface.json | kata-runtime kata-network del-iface 6ec7a98 -"
step "kata-runtime kata-network list-ifaces 6ec7a98"
step "ip -n $NETNS -brief link"
step "patchbay-sandbox stop $ID"
