//! The MTU of a card in the guest and of its TAP change together.

use patchbay_tests::{Card, Done, Guest, Machine, Netns, Side, Testpmd};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

use super::native::native;

fn card() -> Card {
    Card::named("eth-test").address("172.16.0.3/16")
}

fn update(guest: &Guest, mtu: u32) -> Done {
    let document = json!({"name": "eth-test", "mtu": mtu});
    guest.kata_network("update-iface", &document.to_string())
}

/// Returns the MTU of a TAP and that of the card in the guest.
fn mtus(guest: &Guest, tap: &str) -> (Value, Value) {
    let outside = guest.netns().ip(&format!("-j link show {tap}")).json()[0]["mtu"].take();
    (outside, guest.ip("link show eth-test")[0]["mtu"].take())
}

fn both(mtu: u32) -> (Value, Value) {
    (mtu.into(), mtu.into())
}

/// Sends a packet that needs the whole MTU, in both directions.
fn assert_carries(guest: &Guest, mtu: u32) {
    let size = mtu - 28;
    let ping = |address: &str| format!("ping -c 1 -W 5 -M do -s {size} {address}");
    guest.netns().exec(&ping("172.16.0.3")).ok();
    guest.exec(&ping("172.16.0.1")).ok();
}

#[test]
fn update_mtu_changes_tap_and_guest() {
    let guest = Guest::start(Machine::Q35);
    let netns = guest.netns();
    for existing in [false, true] {
        if existing {
            netns.ip("tuntap add tap-test mode tap").ok();
            netns.ip("link set tap-test mtu 1600").ok();
        }
        guest.plug(&card()).ok();
        netns.ip("addr add 172.16.0.1/16 dev tap-test").ok();
        for mtu in [9000, 1300, 4000, 4000] {
            update(&guest, mtu).ok();
            assert_eq!(mtus(&guest, "tap-test"), both(mtu));
            assert_carries(&guest, mtu);
        }
        native(&guest, "nic set ID --name eth-test --mtu 1400").ok();
        assert_eq!(mtus(&guest, "tap-test"), both(1400));
        guest.unplug(&card()).assert_null();
    }
    // Removal restores the MTU before the card.
    assert_eq!(netns.ip("-j link show tap-test").json()[0]["mtu"], 1600);
}

/// Another host has the second address, so the guest refuses the change.
#[test]
fn update_mtu_refused_by_guest_changes_nothing() {
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    guest
        .netns()
        .ip("addr add fd00::9/64 dev tap-test nodad")
        .ok();
    for (before, mtu) in [(1500, 9000), (9000, 1400)] {
        update(&guest, before).ok();
        // As an operator can set it.
        guest.netns().ip("link set tap-test mtu 9100").ok();
        let addresses = json!([
            {"address": "172.16.0.3", "mask": "16"}, {"address": "fd00::9", "mask": "64"},
        ]);
        let document =
            json!({"name": "eth-test", "mtu": mtu, "dad": true, "IPAddresses": addresses});
        let done = guest.kata_network("update-iface", &document.to_string());
        done.assert_null_error(Kind::Exists, "fd00::9/64 belongs to another host");
        assert_eq!(mtus(&guest, "tap-test"), (9100.into(), before.into()));
    }
}

#[test]
fn update_mtu_without_tap_is_refused() {
    let guest = Guest::start(Machine::Q35);
    let elsewhere = Netns::new();
    guest.plug(&card()).ok();
    let netns = guest.netns();
    netns.ip("link set tap-test down").ok();
    netns.ip("link set tap-test name tap-new").ok();
    update(&guest, 1400).ok();
    assert_eq!(mtus(&guest, "tap-new"), both(1400));

    netns
        .ip(&format!("link set tap-new netns {}", elsewhere.name()))
        .ok();
    let moved = "the TAP device 'tap-new' of the card eth-test is not in the network namespace";
    update(&guest, 1300).assert_null_error(Kind::NotFound, moved);
    elsewhere.ip("link del tap-new").ok();
    let deleted = "the TAP device of the card eth-test was deleted on the host";
    update(&guest, 1300).assert_null_error(Kind::NotFound, deleted);
    assert_eq!(guest.ip("link show eth-test")[0]["mtu"], 1400);
    // A card without its TAP is not accepted as the requested one.
    let again = card().set("mtu", 1400);
    guest
        .plug(&again)
        .assert_null_error(Kind::Exists, "its TAP device was deleted on the host");
    guest.unplug(&card()).assert_null();
}

/// The backend's side belongs to another program.
#[test]
fn update_mtu_of_vhost_user_card_changes_guest_only() {
    let guest = Guest::start(Machine::Q35);
    let socket = guest.file("vhost-user1");
    let _backend = Testpmd::start(guest.netns(), &socket, 1, Side::Server);
    guest.plug(&card().vhost_user(&socket)).ok();
    update(&guest, 1400).ok();
    assert_eq!(guest.ip("link show eth-test")[0]["mtu"], 1400);
    let backend = guest.netns().ip("-j link show dpdk0").json();
    assert_eq!(backend[0]["mtu"], 1500);
}
