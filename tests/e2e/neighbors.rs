//! Static neighbors on a live guest, judged by the guest's iproute2.

use patchbay_tests::{Card, Guest, Machine};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

/// Returns the static entries of the guest.
fn shown(guest: &Guest) -> Vec<String> {
    let text = guest.exec("ip neigh show nud permanent").ok();
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.sort();
    lines
}

/// Kata's document of an entry.
fn entry(ip: &str, last: u8, device: &str) -> Value {
    let family = u8::from(ip.contains(':'));
    json!({"toIPAddress": {"family": family, "address": ip, "mask": ""}, "device": device,
        "lladdr": format!("02:00:00:00:00:{last:02x}"), "state": 128, "flags": 0})
}

fn add_iface_sets_neighbors(guest: &Guest) {
    let card = Card::named("eth-test").address("172.16.0.3/16");
    let card = card.address("fd00::3/64").set(
        "neighbors",
        json!([entry("172.16.0.9", 1, "eth-test"), {"address": "fd00::9", "lladdr": "02-00-00-00-00-02"}]),
    );
    let expected = [
        "172.16.0.9 dev eth-test lladdr 02:00:00:00:00:01 PERMANENT",
        "fd00::9 dev eth-test lladdr 02:00:00:00:00:02 PERMANENT",
    ];
    for _ in 0..2 {
        let done = guest.plug(&card);
        assert_eq!(done.err, "", "{done}");
        let echo = done.json();
        assert_eq!(
            echo["neighbors"][1],
            json!({"toIPAddress": {"family": "v6", "address": "fd00::9"}, "device": "eth-test",
                "lladdr": "02:00:00:00:00:02", "state": 128})
        );
        assert_eq!(shown(guest), expected);
    }
    let other = card.set("neighbors", json!([entry("172.16.0.9", 9, "")]));
    let done = guest.plug(&other);
    done.assert_null_error(
        Kind::Exists,
        "interface eth-test is already exist, with another neighbor",
    );
    assert_eq!(shown(guest), expected);
}

fn add_iface_that_fails_is_undone(guest: &Guest) {
    let before = guest.snapshot();
    let bad = |document: Value, kind: Kind, message: &str| {
        let card = Card::named("eth2")
            .mac("02:00:00:00:00:22")
            .address("10.2.0.3/16");
        let done = guest.plug(&card.set("mtu", 1000).set("neighbors", json!([document])));
        done.assert_null_error(kind, message);
        assert_eq!(guest.snapshot(), before);
    };
    // Below an MTU of 1280 the kernel has no IPv6 on the card.
    bad(
        entry("fd00::9", 1, "eth2"),
        Kind::Kernel,
        "could not configure the card",
    );
    bad(
        entry("10.2.0.9", 1, "eth-test"),
        Kind::Invalid,
        "neighbors[0].device",
    );
    bad(
        json!({"address": "10.2.0.9"}),
        Kind::Invalid,
        "missing field neighbors[0].lladdr",
    );
    let arp = json!({"address": "10.2.0.9", "lladdr": "02:00:00:00:00:01", "state": 2});
    bad(arp, Kind::Invalid, "neighbors[0].state");
}

fn documents_are_added_listed_and_deleted(guest: &Guest) {
    let before = shown(guest);
    let wanted = json!([
        entry("172.16.0.10", 10, "eth-test"),
        entry("fe80::10", 11, "eth-test")
    ]);
    let echo = guest.kata_network("add-neighbor", &wanted.to_string()).ok();
    assert_eq!(shown(guest).len(), 4);
    assert!(
        shown(guest)
            .contains(&"fe80::10 dev eth-test lladdr 02:00:00:00:00:0b PERMANENT".to_owned())
    );
    // Echo and list are valid input, and change nothing.
    let now = shown(guest);
    let list = guest.kata_network("list-neighbors", "").ok();
    let native = guest.patchbay(&["neighbor", "list", guest.id()]).ok();
    for document in [echo.as_str(), &list, &native] {
        let done = guest.kata_network("add-neighbor", document);
        assert_eq!((done.status, done.err.as_str()), (0, ""), "{done}");
        assert_eq!(shown(guest), now);
    }
    assert_eq!(
        serde_json::from_str::<Value>(&list)
            .unwrap()
            .as_array()
            .unwrap()
            .len(),
        4
    );
    let conflict = entry("172.16.0.10", 12, "eth-test").to_string();
    let done = guest.kata_network("add-neighbor", &conflict);
    done.assert_null_error(Kind::Exists, "it has the address 02:00:00:00:00:0a");
    let done = guest.kata_network(
        "add-neighbor",
        &entry("172.16.0.11", 1, "nosuch").to_string(),
    );
    done.assert_null_error(Kind::NotFound, "Could not find link from device nosuch");
    let both = json!([{"address": "172.16.0.10"}, entry("172.16.0.99", 1, "")]);
    let done = guest.kata_network("del-neighbor", &both.to_string());
    done.assert_null_error(
        Kind::NotFound,
        "no static neighbor in the guest matches 172.16.0.99",
    );
    assert_eq!(shown(guest), now);
    guest.kata_network("del-neighbor", &echo).ok();
    assert_eq!(shown(guest), before);
}

fn native_commands(guest: &Guest) {
    let before = shown(guest);
    let id = guest.id();
    let lladdr = "02:00:00:00:00:0c";
    let words = [
        "neighbor",
        "add",
        id,
        "--address",
        "172.16.0.12",
        "--lladdr",
        lladdr,
        "--dev",
        "eth-test",
    ];
    let added = guest.patchbay(&words).json();
    assert_eq!(
        added,
        json!([{"address": "172.16.0.12", "lladdr": lladdr, "device": "eth-test"}])
    );
    assert_eq!(shown(guest).len(), before.len() + 1);
    let done = guest.patchbay(&[
        "neighbor",
        "del",
        id,
        "--address",
        "172.16.0.12",
        "--dev",
        "lo",
    ]);
    done.assert_error(
        Kind::NotFound,
        "no static neighbor in the guest matches 172.16.0.12 dev lo",
    );
    guest
        .patchbay(&["neighbor", "del", id, "--address", "172.16.0.12"])
        .ok();
    assert_eq!(shown(guest), before);
}

#[test]
fn neighbors_of_cards_and_commands() {
    let guest = Guest::start(Machine::Q35);
    assert_eq!(guest.kata_network("list-neighbors", "").ok(), "null\n");
    add_iface_sets_neighbors(&guest);
    add_iface_that_fails_is_undone(&guest);
    documents_are_added_listed_and_deleted(&guest);
    native_commands(&guest);
}
