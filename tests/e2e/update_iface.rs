//! `update-iface` on a live guest, checked by the guest's iproute2.

use patchbay_tests::{Card, Done, Guest, Machine};
use serde_json::{Value, json};

fn guest() -> Guest {
    let guest = Guest::start(Machine::Q35);
    let card = Card::named("eth-test").address("172.16.0.3/16");
    guest.plug(&card).ok();
    let default = r#"{"dest":"default","gateway":"172.16.0.1","device":"eth-test"}"#;
    guest.kata_network("add-route", default).ok();
    guest
}

fn update(guest: &Guest, document: &Value) -> Done {
    guest.kata_network("update-iface", &document.to_string())
}

/// Returns the card's addresses in `list-ifaces`, which reads them in the guest.
fn listed(guest: &Guest) -> Value {
    guest.kata_network("list-ifaces", "").json()[0]["ip"].take()
}

/// Returns the guest's addresses and routes, without link-local ones, which change asynchronously.
fn addresses_and_routes(guest: &Guest) -> String {
    guest.exec("ip -o addr show scope global").ok() + &guest.exec("ip route show").ok()
}

/// The incumbent's vectors that are refused.
fn vectors_refused(guest: &Guest) {
    for (field, value, status, sentence) in [
        ("device", json!("tap0"), 2, "device 'tap0'"),
        (
            "vhostUserSocket",
            json!("/tmp/x"),
            2,
            "vhostUserSocket '/tmp/x'",
        ),
        ("queues", json!(2), 2, "queues '2'"),
        ("hwAddr", json!("02:00:00:00:00:01"), 2, "hwAddr '02:"),
        ("linkType", json!("tap"), 2, "linkType 'tap'"),
        (
            "name",
            json!("nope"),
            3,
            "can not find the network interface nope",
        ),
        ("name", json!(""), 2, "missing field name"),
    ] {
        let before = addresses_and_routes(guest);
        let mut document = json!({"name": "eth-test"});
        document[field] = value;
        let done = update(guest, &document);
        assert_eq!(
            (done.status, done.out.as_str()),
            (status, "null\n"),
            "{done}"
        );
        assert!(done.err.contains(sentence), "{done}");
        assert_eq!(addresses_and_routes(guest), before);
    }
}

/// The incumbent's vectors that are accepted.
fn vectors_accepted(guest: &Guest) {
    let one = json!({"name": "eth-test", "IPAddresses": [{"address": "172.16.0.9", "mask": "16"}]});
    assert_eq!(
        update(guest, &one).ok(),
        "{\"name\":\"eth-test\",\"IPAddresses\":[{\"Family\":2,\"Address\":\"172.16.0.9\",\"Mask\":\"16\"}]}\n"
    );
    assert_eq!(listed(guest), json!(["172.16.0.9/16"]));
    let two = json!({"name": "eth-test", "IPAddresses": [
        {"address": "172.16.0.9", "mask": "16"}, {"address": "172.16.0.10", "mask": "16"},
    ]});
    update(guest, &two).ok();
    assert_eq!(listed(guest), json!(["172.16.0.9/16", "172.16.0.10/16"]));
    // Without the field the addresses are kept. The incumbent loses them in its record.
    assert_eq!(
        update(guest, &json!({"name": "eth-test"})).ok(),
        "{\"name\":\"eth-test\"}\n"
    );
    assert_eq!(listed(guest), json!(["172.16.0.9/16", "172.16.0.10/16"]));
    let routes = guest.exec("ip route show").ok();
    assert!(
        routes.contains("default via 172.16.0.1 dev eth-test"),
        "{routes}"
    );
}

/// MTU and IPv6, of which the incumbent refuses the first and loses the second.
fn decided_mtu_and_ipv6(guest: &Guest) {
    let document = json!({"name": "eth-test", "mtu": 1400, "dad": true, "IPAddresses": [
        {"address": "172.16.0.9", "mask": "16"}, {"address": "fd00::9", "mask": "64"},
    ]});
    assert_eq!(
        update(guest, &document).ok(),
        "{\"name\":\"eth-test\",\"IPAddresses\":[{\"Family\":2,\"Address\":\"172.16.0.9\",\"Mask\":\"16\"},\
         {\"Family\":10,\"Address\":\"fd00::9\",\"Mask\":\"64\"}],\"mtu\":1400}\n"
    );
    let link = guest.ip("addr show eth-test")[0].take();
    assert_eq!(link["mtu"], 1400);
    assert_eq!(listed(guest), json!(["172.16.0.9/16", "fd00::9/64"]));
    let shown = guest.exec("ip addr show dev eth-test scope global").ok();
    assert!(!shown.contains("tentative"), "{shown}");
    let small = update(guest, &json!({"name": "eth-test", "mtu": 1000}));
    assert_eq!((small.status, small.out.as_str()), (2, "null\n"), "{small}");
    assert!(
        small
            .err
            .contains("fd00::9/64 needs an mtu of at least 1280"),
        "{small}"
    );
}

/// An empty list removes all addresses, unlike an absent one.
fn decided_an_empty_list_takes_all(guest: &Guest) {
    let document = json!({"name": "eth-test", "IPAddresses": []});
    assert_eq!(update(guest, &document).ok(), "{\"name\":\"eth-test\"}\n");
    assert_eq!(listed(guest), Value::Null);
}

#[test]
fn update_iface_vectors_end_as_decided() {
    let guest = guest();
    vectors_refused(&guest);
    vectors_accepted(&guest);
    decided_mtu_and_ipv6(&guest);
    decided_an_empty_list_takes_all(&guest);
    duplicate_address_is_refused(&guest);
}

/// The other end of the TAP has the same address.
fn duplicate_address_is_refused(guest: &Guest) {
    guest.netns().ip("link set tap-test up").ok();
    guest
        .netns()
        .ip("addr add fd00::9/64 dev tap-test nodad")
        .ok();
    let before = addresses_and_routes(guest);
    let addresses = json!([
        {"address": "172.16.0.3", "mask": "16"}, {"address": "fd00::9", "mask": "64"},
    ]);
    let document = json!({"name": "eth-test", "dad": true, "IPAddresses": addresses});
    let done = update(guest, &document);
    assert_eq!((done.status, done.out.as_str()), (4, "null\n"), "{done}");
    assert!(
        done.err.contains("fd00::9/64 belongs to another host"),
        "{done}"
    );
    assert_eq!(addresses_and_routes(guest), before);
    let unasked = json!({"name": "eth-test", "IPAddresses": addresses});
    update(guest, &unasked).ok();
}

/// The guest refuses the address, and the card is unplugged.
#[test]
fn add_iface_duplicate_address_is_undone() {
    let guest = Guest::start(Machine::Q35);
    let netns = guest.netns();
    netns
        .ip("tuntap add tap-dup mode tap multi_queue vnet_hdr")
        .ok();
    netns.ip("link set tap-dup up").ok();
    netns.ip("addr add fd00::9/64 dev tap-dup nodad").ok();
    let card = Card::named("eth-dup")
        .mac("02:42:20:6f:a3:70")
        .address("fd00::9/64")
        .set("dad", true);
    let done = guest.plug(&card);
    assert_eq!((done.status, done.out.as_str()), (4, "null\n"), "{done}");
    assert!(
        done.err.contains("fd00::9/64 belongs to another host"),
        "{done}"
    );
    assert_eq!(guest.kata_network("list-ifaces", "").ok(), "null\n");
    guest.plug(&card.device("tap-free")).ok();
    let shown = guest.exec("ip addr show dev eth-dup scope global").ok();
    assert!(
        shown.contains("fd00::9/64") && !shown.contains("tentative"),
        "{shown}"
    );
}
