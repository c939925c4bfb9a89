//! Host devices that others change under a plugged card: the machine goes on, the reports show the
//! change, and the card can be unplugged.

use patchbay_tests::{Card, Done, Guest, Machine, Netns, Side, Testpmd};
use serde_json::Value;

fn card(queues: u32) -> Card {
    let card = Card::named("eth-test").address("172.16.0.3/16");
    if queues > 1 {
        card.queues(queues)
    } else {
        card
    }
}

/// Asserts that QEMU runs the guest and accepts another card.
fn assert_machine_works(guest: &Guest) {
    guest
        .plug(&Card::named("eth-next").mac("02:00:00:00:00:09"))
        .ok();
    guest.unplug(&Card::named("eth-next")).assert_null();
    assert_eq!(guest.exec("uname -s").ok(), "Linux\n");
}

fn doctor(guest: &Guest) -> Value {
    guest.patchbay(&["doctor", guest.id(), "--json"]).json()
}

fn assert_warning(done: &Done, sentence: &str) {
    assert_eq!(done.status, 0, "{done}");
    assert!(done.err.starts_with("patchbay: warning: "), "{done}");
    assert!(done.err.contains(sentence), "{done}");
}

/// The guest of the harness has two processors and enables two of the four queues itself.
#[test]
fn unplug_card_of_deleted_tap_succeeds() {
    let guest = Guest::start(Machine::Q35);
    let snapshot = guest.snapshot();
    for (queues, kind) in [
        (1, "new"),
        (4, "new"),
        (1, "existing"),
        (4, "existing"),
        (4, "reduced"),
    ] {
        let netns = guest.netns();
        if kind == "existing" {
            let flags = if queues > 1 { "multi_queue" } else { "" };
            netns
                .ip(&format!("tuntap add tap-test mode tap vnet_hdr {flags}"))
                .ok();
        }
        guest.plug(&card(queues)).ok();
        if kind == "reduced" {
            guest.exec("ethtool -L eth-test combined 2").ok();
        }
        assert!(doctor(&guest)["cards"][0].get("tapDeleted").is_none());
        netns.ip("link del tap-test").ok();

        let sentence = "the TAP device of the card eth-test was deleted";
        assert_warning(&guest.kata_network("list-ifaces", ""), sentence);
        let report = doctor(&guest);
        assert_eq!(report["cards"][0]["tapDeleted"], true);
        let missing = report["missing"].as_array().unwrap().iter();
        assert!(
            missing
                .clone()
                .any(|missing| missing["part"] == "TAP device"),
            "{report}"
        );
        let text = guest.patchbay(&["doctor", guest.id()]).ok();
        assert!(text.contains("from tap-test (deleted), plugged"), "{text}");

        guest.unplug(&card(queues)).assert_null();
        assert_eq!(guest.snapshot(), snapshot, "{queues} queues, {kind} TAP");
        assert_machine_works(&guest);
    }
}

/// A card whose TAP was deleted blocks neither other cards nor a TAP with its name.
#[test]
fn deleted_tap_affects_only_its_card() {
    let guest = Guest::start(Machine::Q35);
    let other = Card::named("eth-other")
        .mac("02:00:00:00:00:02")
        .address("172.17.0.3/16");
    guest.plug(&card(1)).ok();
    guest.plug(&other).ok();
    guest.netns().ip("link del tap-test").ok();
    guest.netns().ip("tuntap add tap-test mode tap").ok();
    guest.netns().ip("link set tap-test mtu 1400 up").ok();
    guest
        .netns()
        .ip("addr add 172.17.0.1/16 dev tap-other")
        .ok();
    guest.unplug(&card(1)).assert_null();
    // The new TAP is not the card's.
    let link = guest.netns().ip("-j link show tap-test").json()[0].take();
    assert_eq!(link["mtu"], 1400);
    guest.netns().exec("ping -c 1 -W 5 172.17.0.3").ok();
    guest.unplug(&other).assert_null();
}

#[test]
fn unplug_card_of_moved_renamed_or_down_tap_succeeds() {
    let guest = Guest::start(Machine::Q35);
    let snapshot = guest.snapshot();
    let elsewhere = Netns::new();
    for change in [
        format!("link set tap-test netns {}", elsewhere.name()),
        "link set tap-test down".to_owned(),
        "link set tap-test name tap-new".to_owned(),
        "link set tap-test mtu 68".to_owned(),
    ] {
        guest.plug(&card(2)).ok();
        if change.contains(" name ") {
            guest.netns().ip("link set tap-test down").ok();
        }
        guest.netns().ip(&change).ok();
        let listed = guest.kata_network("list-ifaces", "");
        assert_eq!((listed.status, listed.err.as_str()), (0, ""), "{listed}");
        guest.unplug(&card(2)).assert_null();
        assert_eq!(guest.snapshot(), snapshot, "{change}");
        assert_eq!(elsewhere.links(), Vec::<String>::new());
    }
    assert_machine_works(&guest);
}

/// A TAP that existed gets its state back under its new name; one with its old name is another TAP.
#[test]
fn unplug_restores_only_the_tap_of_the_card() {
    let guest = Guest::start(Machine::Q35);
    let netns = guest.netns();
    let mtu = |name: &str| netns.ip(&format!("-j link show {name}")).json()[0]["mtu"].take();
    netns.ip("tuntap add tap-test mode tap").ok();
    netns.ip("link set tap-test mtu 1400").ok();
    guest.plug(&card(1)).ok();
    assert_eq!(mtu("tap-test"), 1500);
    netns.ip("link set tap-test down").ok();
    netns.ip("link set tap-test name tap-new").ok();
    netns.ip("tuntap add tap-test mode tap").ok();
    netns.ip("link set tap-test mtu 1300").ok();
    guest.unplug(&card(1)).assert_null();
    assert_eq!(
        (mtu("tap-new"), mtu("tap-test")),
        (1400.into(), 1300.into())
    );
}

/// The backend dies while the card is used, and does not come back.
#[test]
fn unplug_card_of_dead_vhost_user_backend_succeeds() {
    let guest = Guest::start(Machine::Q35);
    for (side, mode) in [(Side::Server, "client"), (Side::Client, "server")] {
        let socket = guest.file("vhost-user1");
        let backend = Testpmd::start(guest.netns(), &socket, 2, side);
        let card = card(2).vhost_user(&socket);
        let card = if mode == "server" {
            card.set("vhostUserMode", mode)
        } else {
            card
        };
        guest.plug(&card).ok();
        drop(backend);
        let _ = std::fs::remove_file(&socket);
        guest.exec("ethtool -L eth-test combined 1").ok();
        guest.unplug(&card).assert_null();
        assert_machine_works(&guest);
    }
}

/// A reset, after which QEMU and the guest set the device up again.
#[test]
fn reset_with_dead_vhost_user_backend_keeps_machine() {
    let guest = Guest::start(Machine::Q35);
    let socket = guest.file("vhost-user1");
    let backend = Testpmd::start(guest.netns(), &socket, 2, Side::Server);
    guest.plug(&card(2).vhost_user(&socket)).ok();
    drop(backend);
    guest.reset();
    guest.unplug(&card(2).vhost_user(&socket)).assert_null();
    assert_machine_works(&guest);
}
