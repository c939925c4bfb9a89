//! The incumbent's vectors of routes and interface changes, played on a live guest, and the decisions
//! to differ from it.

use patchbay_tests::{Done, Guest, Machine, patchbay, run};
use serde_json::{Value, json};

const AREAS: [&str; 6] = [
    "route",
    "update-iface",
    "agent-route",
    "agent-iface",
    "net-api",
    "net-cli",
];

/// Parts of `net-cli` vectors that `vectors.rs` plays.
const ELSEWHERE: [&str; 4] = ["no container id", "del-iface", "add-iface", "list-ifaces"];

/// Vectors with another result: a part of their text, whether patchbay accepts them, the decision.
const DECIDED: &[(&str, bool, &str)] = &[
    ("mtu must be unset", true, "issue: the MTU is an addition"),
    (
        "same dest via another device",
        false,
        "design: never replaced silently",
    ),
    (
        "array refused by add/del-route",
        true,
        "issue: an array is one request",
    ),
    (
        "kernel connected route (scope link)",
        true,
        "design: connected routes too",
    ),
    (
        "docs say dest alone deletes every match",
        true,
        "design: the guide's fuzzy match",
    ),
    (
        "default without gateway cannot be deleted",
        true,
        "design: the guide's fuzzy match",
    ),
    (
        "file containing [{}]",
        false,
        "fields are checked without a mock too",
    ),
    (
        "API without the CLI's linkType=tap default",
        true,
        "the command line has that default",
    ),
    (
        "first succeeds, second is an error",
        true,
        "guide: an unknown card is success",
    ),
];

fn vectors() -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../fixtures/incumbent.json")).unwrap();
    let here = |v: &Value| AREAS.contains(&v["area"].as_str().unwrap());
    let elsewhere = |v: &Value| {
        v["area"] == "net-cli" && ELSEWHERE.iter().any(|part| v.to_string().contains(part))
    };
    all.into_iter()
        .filter(|v| here(v) && !elsewhere(v))
        .collect()
}

/// The cards of the vectors, each with an address on the subnet of their gateways.
const CARDS: [(&str, &str, &str); 4] = [
    ("eth-test", "172.16.0.3", "16"),
    ("netport_test_1", "177.17.25.9", "16"),
    ("eth1", "10.0.0.2", "24"),
    ("ifc-name", "192.168.0.2", "16"),
];

fn card(name: &str, address: &str, mask: &str) -> String {
    let place = CARDS.iter().position(|(card, ..)| *card == name);
    let document = json!({
        "device": format!("t-{name}").chars().take(15).collect::<String>(),
        "name": name, "mtu": 1500,
        "hwAddr": format!("02:42:20:6f:a3:{:02x}", place.map_or(99, |place| place + 1)),
        "IPAddresses": [{"address": address, "mask": mask}],
    });
    document.to_string()
}

/// Restores the addresses and routes with which each vector starts.
fn reset(guest: &Guest) {
    for (name, address, mask) in CARDS {
        for wanted in [json!([]), json!([{"address": address, "mask": mask}])] {
            let document = json!({"name": name, "mtu": 1500, "IPAddresses": wanted});
            guest
                .kata_network("update-iface", &document.to_string())
                .ok();
        }
    }
    guest.kata_network("update-routes", "[]").ok();
}

/// Runs the vector's command on its input.
fn play(guest: &Guest, vector: &Value) -> Done {
    let area = vector["area"].as_str().unwrap();
    let input = &vector["input"];
    if area == "net-api" || area == "agent-iface" {
        return play_api(guest, vector);
    }
    let command = match area {
        "agent-route" => "update-routes",
        _ => vector["command"]
            .as_str()
            .unwrap()
            .trim_start_matches("kata-network "),
    };
    let Some(text) = input.as_str() else {
        if command == "del-route" && input["dest"].is_string() {
            let mut there = input.clone();
            there["device"] = json!("eth1");
            there["gateway"] = json!("10.0.0.1");
            guest.kata_network("add-route", &there.to_string()).ok();
        }
        return guest.kata_network(command, &input.to_string());
    };
    match text {
        "same dest via another device" => {
            guest.exec("ip route add 10.50.0.0/16 dev eth1").ok();
            guest.kata_network(command, r#"{"dest":"10.50.0.0/16","device":"eth-test"}"#)
        }
        "kernel connected route (scope link)" => {
            guest.kata_network(command, r#"{"dest":"10.0.0.0/24","device":"eth1"}"#)
        }
        text if text.starts_with("connected route listed explicitly") => {
            let connected =
                r#"[{"dest":"192.168.0.0/16","source":"192.168.0.2","device":"ifc-name"}]"#;
            guest.kata_network(command, connected)
        }
        text if text.contains("file containing [{}]") => guest.kata_network(command, "[{}]"),
        _ => lists(guest, text),
    }
}

/// Plays the vectors of lists, whose output is asserted here.
fn lists(guest: &Guest, text: &str) -> Done {
    let list = || guest.kata_network("list-routes", "");
    let has = |done: &Done, route: &Value| {
        let routes: Value = serde_json::from_str(&done.out).unwrap();
        assert!(
            routes.as_array().unwrap().contains(route),
            "{route}: {routes}"
        );
    };
    let default = json!({"dest":"default","gateway":"192.168.0.1","device":"ifc-name"});
    let connected = json!({"dest":"192.168.0.0/16","device":"ifc-name"});
    match text {
        "compat mode" => {
            let default = json!({"dest":"default","gateway":"172.16.0.1","device":"eth-test"});
            guest.kata_network("add-route", &default.to_string()).ok();
            let done = list();
            has(&done, &default);
            has(&done, &json!({"dest":"172.16.0.0/16","device":"eth-test"}));
            done
        }
        "after full update with only a default route" => {
            guest
                .kata_network("update-routes", &json!([default]).to_string())
                .ok();
            let done = list();
            has(&done, &default);
            has(&done, &connected);
            done
        }
        "two NICs on one subnet" => {
            let second =
                json!({"name":"eth1","IPAddresses":[{"address":"192.168.0.9","mask":"16"}]});
            guest.kata_network("update-iface", &second.to_string()).ok();
            let done = list();
            has(&done, &connected);
            has(&done, &json!({"dest":"192.168.0.0/16","device":"eth1"}));
            done
        }
        text if text.starts_with("with IPv6 address 2001:db8:1::242:ac11:2/64") => {
            let both = json!({"name":"eth1","IPAddresses":[
                {"address":"10.0.0.2","mask":"24"},
                {"address":"2001:db8:1::242:ac11:2","mask":"64"},
            ]});
            guest.kata_network("update-iface", &both.to_string()).ok();
            let default = json!({"dest":"default","gateway":"2001:db8:1::1","device":"eth1"});
            guest.kata_network("add-route", &default.to_string()).ok();
            let done = list();
            let routes: Value = serde_json::from_str(&done.out).unwrap();
            // IPv4 first, then IPv6; the kernel's link-local routes are not shown.
            let tail: Vec<&Value> = routes.as_array().unwrap().iter().rev().take(2).collect();
            assert_eq!(
                tail,
                [
                    &default,
                    &json!({"dest":"2001:db8:1::/64","device":"eth1","metric":256})
                ]
            );
            done
        }
        // The list is not empty on a guest with cards.
        "existing sandbox" | "<id>, runtime returns nil" => list(),
        other => panic!("no way to play {other}"),
    }
}

/// Plays the vectors of the layers below the command line by the command that reaches them.
fn play_api(guest: &Guest, vector: &Value) -> Done {
    let text = vector["input"].as_str().unwrap();
    let with = |id: &str| {
        let words = ["kata-network", "add-iface", id, "-"];
        run(
            &mut patchbay(guest.run_dir(), &words),
            &card("eth9", "10.3.0.1", "24"),
        )
    };
    let two =
        json!([{"address":"192.168.0.101","mask":"24"},{"address":"192.168.0.102","mask":"24"}]);
    match text {
        "sandbox=''" => with(""),
        "sandbox='abc' (unknown)" => with("abc"),
        "a NIC that was never added" => guest.kata_network("del-iface", r#"{"name":"never"}"#),
        "sandbox with no NIC" => guest.kata_network("list-ifaces", ""),
        "nil routes, op=update" => guest.kata_network("update-routes", "null"),
        "mtu 500 and two IPv4 addresses" => {
            let document = json!({"name":"ifc-name","mtu":500,"IPAddresses":two});
            let done = guest.kata_network("update-iface", &document.to_string());
            let link = guest.ip("addr show ifc-name")[0].take();
            assert_eq!(link["mtu"], 500);
            done
        }
        "mtu 999999999999" => {
            let document = json!({"name":"ifc-name","mtu":999_999_999_999_u64});
            guest.kata_network("update-iface", &document.to_string())
        }
        "same with the MAC present as 'ifc-name' (up)" => {
            let (name, address, mask) = CARDS[3];
            guest.kata_network("add-iface", &card(name, address, mask))
        }
        "known MAC / then again" => plug_and_unplug_twice(guest, "eno2"),
        text if text.starts_with("{name:eno1,mtu:1500") => plug_and_unplug_twice(guest, "eno1"),
        other => lists(guest, other),
    }
}

fn plug_and_unplug_twice(guest: &Guest, name: &str) -> Done {
    let document = card(name, "192.168.0.101", "24");
    let added = guest.kata_network("add-iface", &document);
    assert_eq!(added.status, 0, "{added}");
    guest.kata_network("del-iface", &document).ok();
    guest.kata_network("del-iface", &document)
}

#[test]
fn incumbent_vectors_end_as_decided() {
    let guest = Guest::start(Machine::Q35);
    for (name, address, mask) in CARDS {
        guest
            .kata_network("add-iface", &card(name, address, mask))
            .ok();
    }
    let vectors = vectors();
    let (mut passed, mut decided) = (0, 0);
    for vector in &vectors {
        reset(&guest);
        let text = vector.to_string();
        let accept = vector["expect"]["result"] == "accept";
        let ours = DECIDED.iter().find(|(part, ..)| text.contains(part));
        let done = play(&guest, vector);
        if ours.map_or(accept, |(_, accept, _)| *accept) {
            assert_eq!(done.status, 0, "{vector}\n{done}");
        } else {
            assert_eq!(done.out, "null\n", "{vector}\n{done}");
            assert!([2, 3, 4, 8].contains(&done.status), "{vector}\n{done}");
            assert_eq!(done.err.lines().count(), 1, "{vector}\n{done}");
        }
        let stdout = vector["expect"]["stdout"].as_str();
        if let Some(stdout) = stdout.filter(|_| ours.is_none() && vector["input"].is_object()) {
            assert_eq!(done.out, stdout, "{vector}");
        }
        if ours.is_some() {
            decided += 1;
        } else {
            passed += 1;
        }
    }
    eprintln!("{passed} as the incumbent, {decided} decided otherwise");
    assert_eq!(decided, DECIDED.len());
    assert!(passed > 35, "{passed}");
}
