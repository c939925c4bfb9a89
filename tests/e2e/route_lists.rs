//! Lists of routes as requests, Kata's documents, and links with any name.

use patchbay_tests::{Card, Guest, Machine};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

/// Returns the unicast routes of every table, without those that the kernel makes and removes in the
/// background.
fn routes(guest: &Guest) -> String {
    let shown = guest.exec("ip -N route show table all").ok();
    let is_stable = |line: &&str| {
        let words: Vec<&str> = line.split(' ').collect();
        let background = |word: &&str| word.starts_with("fe80:") || *word == "ff00::/8";
        !words.iter().take(2).any(background)
    };
    let mut lines: Vec<&str> = shown.lines().filter(is_stable).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Starts a guest with two cards, of which the second was renamed to `wg=0`, and adds routes as DHCP
/// clients, router advertisements and routing daemons make them.
fn guest() -> Guest {
    let guest = Guest::start(Machine::Q35);
    guest.netns().ip("tuntap add tap=0 mode tap").ok();
    let first = Card::named("eth-test").mac("02:00:00:00:00:01");
    let first = first.address("172.16.0.3/16").address("fd00::3/64");
    let second = Card::named("eth1").mac("02:00:00:00:00:02");
    let second = second.device("tap=0").address("10.9.0.3/16");
    for card in [first, second] {
        guest.plug(&card).ok();
    }
    guest.exec("ip link set eth1 down").ok();
    guest.exec("ip link set eth1 name wg=0").ok();
    guest.exec("ip link set wg=0 up").ok();
    for line in [
        "default via 172.16.0.1 dev eth-test proto dhcp src 172.16.0.3 metric 100",
        "172.16.0.1 dev eth-test proto dhcp scope link src 172.16.0.3 metric 100",
        "default via fd00::1 dev eth-test proto ra metric 1024",
        "fd01::/64 via fd00::1 dev eth-test proto static mtu 1400",
        "10.7.0.0/16 via 172.16.0.1 dev eth-test mtu 1300",
        "10.8.0.0/16 via 192.0.2.1 dev wg=0 onlink",
        "10.9.9.0/24 dev wg=0 scope host",
        "default dev wg=0 metric 9",
        "10.7.0.0/16 via 172.16.0.1 dev eth-test table 70000 proto bgp",
        "fd01::/64 via fd00::1 dev eth-test table 100",
    ] {
        guest.exec(&format!("ip route add {line}")).ok();
    }
    guest
}

fn lists_fed_back_change_nothing(guest: &Guest) {
    let before = routes(guest);
    let listed = guest.kata_network("list-routes", "");
    assert_eq!(listed.err, "", "{listed}");
    let native = guest.patchbay(&["route", "list", "--json", guest.id()]);
    for list in [listed.ok(), native.ok()] {
        for command in ["update-routes", "add-route"] {
            let done = guest.kata_network(command, &list);
            assert_eq!(
                (done.status, done.err.as_str()),
                (0, ""),
                "{command}: {done}"
            );
            assert_eq!(routes(guest), before, "{command} {list}");
        }
    }
}

fn list_has_each_field_unless_default(guest: &Guest) {
    let listed = guest.kata_network("list-routes", "").json();
    let listed = listed.as_array().unwrap();
    for route in [
        json!({"dest": "default", "gateway": "172.16.0.1", "device": "eth-test",
            "source": "172.16.0.3", "metric": 100, "protocol": 16}),
        json!({"dest": "172.16.0.0/16", "device": "eth-test"}),
        json!({"dest": "fd00::/64", "device": "eth-test", "metric": 256}),
        json!({"dest": "fd01::/64", "gateway": "fd00::1", "device": "eth-test", "mtu": 1400,
            "protocol": 4}),
        json!({"dest": "10.8.0.0/16", "gateway": "192.0.2.1", "device": "wg=0", "onlink": true}),
        json!({"dest": "10.9.9.0/24", "device": "wg=0", "scope": 254}),
        json!({"dest": "0.0.0.0/0", "device": "wg=0", "metric": 9}),
        json!({"dest": "10.7.0.0/16", "gateway": "172.16.0.1", "device": "eth-test",
            "table": 70000, "protocol": 186}),
    ] {
        assert!(listed.contains(&route), "{route}: {listed:?}");
        guest.kata_network("del-route", &route.to_string()).ok();
        guest.kata_network("add-route", &route.to_string()).ok();
    }
}

/// The document that Kata's runtime makes of a point-to-point link, with every key of its message.
fn point_to_point(scope: u32) -> Value {
    let route = |dest: &str, gateway: &str, source: &str, scope: u32| {
        json!({"dest": dest, "gateway": gateway, "device": "eth-test", "source": source,
            "scope": scope, "family": 0, "flags": 0, "mtu": 0})
    };
    let mut set = vec![
        route("", "172.16.0.1", "", 0),
        route("172.16.0.0/16", "172.16.0.1", "172.16.0.3", 0),
        route("172.16.0.1/32", "", "", scope),
    ];
    set.push(
        json!({"dest": "fd02::/64", "gateway": "fd99::1", "device": "eth-test", "family": 1,
        "flags": 4, "mtu": 1300}),
    );
    json!(set)
}

fn kata_documents_are_carried_out(guest: &Guest) {
    let in_main = |guest: &Guest| {
        let shown = guest.exec("ip -N route show dev eth-test").ok();
        shown
            .lines()
            .map(str::trim_end)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    guest.kata_network("update-routes", "[]").ok();
    let before = routes(guest);
    let mut unreachable = point_to_point(253);
    unreachable[3]["flags"] = json!(0);
    let done = guest.kata_network("update-routes", &unreachable.to_string());
    done.assert_null_error(Kind::Kernel, "could not add the route fd02::/64");
    assert_eq!(routes(guest), before);
    for (scope, shown) in [(254, "254"), (253, "253")] {
        let set = point_to_point(scope).to_string();
        let done = guest.kata_network("update-routes", &set);
        assert_eq!((done.status, done.err.as_str()), (0, ""), "{done}");
        assert_eq!(
            in_main(guest),
            [
                "default via 172.16.0.1".to_owned(),
                "172.16.0.0/16 via 172.16.0.1 src 172.16.0.3".to_owned(),
                format!("172.16.0.1 scope {shown}"),
            ]
        );
        let v6 = guest.exec("ip -6 route show fd02::/64").ok();
        assert!(
            v6.starts_with("fd02::/64 via fd99::1 dev eth-test metric 1024 onlink mtu 1300"),
            "{v6}"
        );
    }
}

fn unknown_and_unsupported_keys_are_reported(guest: &Guest) {
    let before = routes(guest);
    let with = |key: &str, value: Value| {
        let mut route =
            json!({"dest": "10.50.0.0/16", "gateway": "172.16.0.1", "device": "eth-test"});
        route[key] = value;
        json!([route]).to_string()
    };
    for (key, value) in [
        ("flags", json!(16)),
        ("family", json!("v6")),
        ("type", json!("blackhole")),
        ("mtu", json!(70_000)),
        ("protocol", json!(256)),
    ] {
        let done = guest.kata_network("add-route", &with(key, value));
        done.assert_null_error(Kind::Invalid, &format!("[0].{key} "));
        assert_eq!(routes(guest), before);
    }
    let done = guest.kata_network("add-route", &with("advmss", json!(1200)));
    assert_eq!(
        done.err, "patchbay: warning: unknown key '[0].advmss' is ignored\n",
        "{done}"
    );
    done.ok();
    assert!(routes(guest).contains("10.50.0.0/16 via 172.16.0.1"));
}

fn interfaces_have_any_name(guest: &Guest) {
    let listed = guest.kata_network("list-ifaces", "").json();
    assert_eq!(listed[1]["name"], "eth1");
    assert_eq!(listed[1]["guestName"], "wg=0");
    let change = r#"{"name":"wg=0","mtu":1400,"IPAddresses":[{"address":"10.9.0.4","mask":"16"}]}"#;
    guest.kata_network("update-iface", change).ok();
    let shown = guest.ip("addr show wg=0")[0].take();
    assert_eq!(
        (&shown["mtu"], &shown["addr_info"][0]["local"]),
        (&json!(1400), &json!("10.9.0.4"))
    );
    let new = Card::named("eth2").mac("02:00:00:00:00:03").device("tap=1");
    let done = guest.plug(&new);
    done.assert_null_error(Kind::Invalid, "device 'tap=1' is not allowed");
}

#[test]
fn lists_and_kata_documents_are_requests() {
    let guest = guest();
    lists_fed_back_change_nothing(&guest);
    list_has_each_field_unless_default(&guest);
    kata_documents_are_carried_out(&guest);
    unknown_and_unsupported_keys_are_reported(&guest);
    interfaces_have_any_name(&guest);
}
