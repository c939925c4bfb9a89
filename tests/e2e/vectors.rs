//! The incumbent's vectors of cards and of the command line, played on a live guest, and the decisions
//! to differ from it.

use patchbay_tests::{Card, Done, Guest, Machine, patchbay, run};
use serde_json::Value;

/// Expected result of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Accept,
    Reject,
}
use Must::{Accept, Reject};

/// Vectors with another result: a part of their note or input, the result, and the decision.
const DECIDED: &[(&str, Must, &str)] = &[
    ("upper-case mac", Accept, "a MAC is taken in any case"),
    (
        "long IPv6 (>18 bytes) refused",
        Accept,
        "addresses are IPv4 and IPv6",
    ),
    ("two addresses", Accept, "any number of addresses"),
    (
        ": mtu 46",
        Reject,
        "under 68 refused up front, naming the kernel's minimum",
    ),
    (
        "docs example with queues",
        Accept,
        "as the guide says, also beyond the vCPUs",
    ),
    (
        "MAC matches too (docs say name only)",
        Reject,
        "by name only, as the guide says",
    ),
    (
        "<id> file containing {}  (runtime mocked)",
        Reject,
        "fields are checked without a mock too",
    ),
];

/// Vectors that another test plays, and which; those with another result, with the decision.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "second NIC with a vhost-user socket in one sandbox",
        "several ports per sandbox: vhost_user.rs, server_mode_accepts_backend",
    ),
    (
        "26th device on one bridge",
        "all 31 slots of a bridge are used: hotplug/slot.rs",
    ),
    (
        "vhost-user HotAttach",
        "vhost_user.rs, guide_vhost_user_example_works",
    ),
    (
        "vhost-user HotDetach",
        "vhost_user.rs, guide_vhost_user_example_works",
    ),
    ("kata-network list-routes", "net_vectors.rs"),
    ("kata-network update-routes", "net_vectors.rs"),
];

const AREAS: [&str; 5] = [
    "add-iface",
    "net-cli",
    "list-ifaces",
    "del-iface",
    "hotplug",
];

fn card() -> Card {
    Card::named("eth-test")
}

fn vectors() -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../fixtures/incumbent.json")).unwrap();
    let here = all
        .into_iter()
        .filter(|v| AREAS.contains(&v["area"].as_str().unwrap()));
    here.filter(|v| {
        !ELSEWHERE
            .iter()
            .any(|(part, _)| v.to_string().contains(part))
    })
    .collect()
}

fn decided(vector: &Value) -> Option<Must> {
    let text = vector.to_string();
    let ours = DECIDED.iter().find(|(part, _, _)| text.contains(part));
    ours.map(|(_, must, _)| *must)
}

/// Runs the vector's command on its input.
fn play(guest: &Guest, vector: &Value) -> Done {
    let command = vector["command"]
        .as_str()
        .unwrap()
        .trim_start_matches("kata-network ");
    let with = |id: &str, document: &str| {
        let words = ["kata-network", "add-iface", id, "-"];
        run(&mut patchbay(guest.run_dir(), &words), document)
    };
    let Some(input) = vector["input"].as_str() else {
        return guest.kata_network(command, &vector["input"].to_string());
    };
    match input {
        "file of 1048577 bytes" => guest.kata_network(command, &" ".repeat(1_048_577)),
        "null" => guest.kata_network(command, "null"),
        "malformed JSON" => guest.kata_network(command, r#"{"device":"#),
        "(no container id)" => run(
            &mut patchbay(guest.run_dir(), &["kata-network", command]),
            "",
        ),
        "unknown container id" => with("nobody", &card().json()),
        "ambiguous id prefix" => {
            let twin = guest.run_dir().join(format!("{}-twin", &guest.id()[..7]));
            std::fs::create_dir(&twin).unwrap();
            std::fs::copy(guest.file("sandbox.json"), twin.join("sandbox.json")).unwrap();
            let done = with(&guest.id()[..6], &card().json());
            std::fs::remove_dir_all(twin).unwrap();
            done
        }
        "container not running" => {
            let dead = guest.run_dir().join("dead");
            std::fs::create_dir(&dead).unwrap();
            let text = std::fs::read_to_string(guest.file("sandbox.json")).unwrap();
            std::fs::write(
                dead.join("sandbox.json"),
                text.replace("qmp.sock", "gone.sock"),
            )
            .unwrap();
            with("dead", &card().json())
        }
        "device_del fails" => device_del_fails(guest),
        "no NIC" | "<id>, runtime returns nil" => guest.kata_network(command, ""),
        "two NICs" => two_cards(guest),
        text if text.contains("file containing {}") => guest.kata_network(command, "{}"),
        other => panic!("no way to play {other}"),
    }
}

/// No card is removed from a paused machine.
fn device_del_fails(guest: &Guest) -> Done {
    let card = Card::named("eth-fun")
        .mac("02:42:20:6e:a2:59")
        .address("177.17.0.1/8");
    guest.plug(&card).ok();
    guest.monitor().run("stop", serde_json::json!({}));
    let done = guest.unplug(&card);
    guest.resume();
    guest.unplug(&card).assert_null();
    assert_eq!(done.status, 5, "{done}");
    assert_eq!(
        done.out,
        "{\"device\":\"tap-fun\",\"name\":\"eth-fun\",\"IPAddresses\":[{\"Family\":0,\"Address\":\
         \"177.17.0.1\",\"Mask\":\"8\"}],\"mtu\":1500,\"hwAddr\":\"02:42:20:6e:a2:59\",\
         \"linkType\":\"tap\"}\n"
    );
    done
}

fn two_cards(guest: &Guest) -> Done {
    let cards = [
        ("container_eth", "02:42:20:6e:a2:59", "172.17.25.23/8"),
        ("container_eth_2", "02:90:50:6b:a2:29", "192.168.0.34/24"),
    ];
    let cards = cards.map(|(name, mac, address)| {
        let card = Card::named(name).mac(mac).address(address);
        card.device(&format!("tap-{}", &mac[15..]))
    });
    for card in &cards {
        guest.plug(card).ok();
    }
    let done = guest.kata_network("list-ifaces", "");
    for card in &cards {
        guest.unplug(card).ok();
    }
    done
}

/// Returns the field that the error must name, if the vector is about a field.
fn field_at_fault(vector: &Value) -> Option<&'static str> {
    let note = vector["note"].as_str().unwrap();
    let about = [
        ("vhost-user base name", "vhostUserSocket"),
        ("device", "device"),
        ("name", "name"),
        ("mtu", "mtu"),
        ("mac", "hwAddr"),
        ("EUI-64", "hwAddr"),
        ("mask", "IPAddresses[0].mask"),
        ("bad address", "IPAddresses[0].address"),
        ("null address", "IPAddresses[0]"),
        ("linkType", "linkType"),
    ];
    let subject = note.rsplit(": ").next().unwrap();
    let subject = if note.contains("no patch test") {
        note.split("no patch test): ").nth(1)?
    } else {
        subject
    };
    // The error about "mask 33" names the whole entry.
    if subject == "mask 33" {
        return Some("IPAddresses[0]");
    }
    about
        .iter()
        .find(|(word, _)| subject.contains(word))
        .map(|(_, field)| *field)
}

fn accepted(guest: &Guest, vector: &Value, done: &Done) {
    assert_eq!(done.status, 0, "{vector}\n{done}");
    if let Some(stdout) = vector["expect"]["stdout"].as_str() {
        assert_eq!(done.out, stdout, "{vector}");
    }
    if vector["area"] != "add-iface" {
        return;
    }
    let added: Value = serde_json::from_str(&done.out).unwrap();
    let input = &vector["input"];
    let name = input["name"].as_str().unwrap();
    let link = guest.ip(&format!("addr show {name}"))[0].take();
    assert_eq!(
        link["address"],
        input["hwAddr"].as_str().unwrap().to_lowercase()
    );
    assert_eq!(link["mtu"], input["mtu"]);
    let infos = link["addr_info"].as_array().unwrap();
    let global: Vec<&Value> = infos
        .iter()
        .filter(|a| a["scope"] == "global")
        .map(|a| &a["local"])
        .collect();
    let wanted = input["IPAddresses"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|a| &a["address"]);
    assert_eq!(global, wanted.collect::<Vec<_>>());
    if global.is_empty() {
        assert!(added.get("IPAddresses").is_none(), "{added}");
    }
    assert_eq!(
        guest.kata_network("del-iface", &input.to_string()).ok(),
        "null\n"
    );
}

#[test]
fn incumbent_vectors_end_as_decided() {
    let guest = Guest::start(Machine::Q35);
    let snapshot = guest.snapshot();
    let vectors = vectors();
    assert!(vectors.len() >= 40, "{}", vectors.len());
    for vector in &vectors {
        let done = play(&guest, vector);
        let result = vector["expect"]["result"].as_str().unwrap();
        let incumbent = if result == "accept" { Accept } else { Reject };
        match decided(vector).unwrap_or(incumbent) {
            Accept => accepted(&guest, vector, &done),
            Reject => {
                assert_ne!(done.status, 0, "{vector}\n{done}");
                assert!(!done.err.trim().is_empty(), "{vector}\n{done}");
                if let Some(field) = field_at_fault(vector) {
                    assert!(done.err.contains(field), "{vector}\n{done}");
                    assert!([2, 7].contains(&done.status), "{vector}\n{done}");
                }
            }
        }
    }
    assert_eq!(guest.snapshot(), snapshot);
}
