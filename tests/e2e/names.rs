//! Cards that the guest renames, hides or forgets: lists show them, and commands find them.

use std::path::Path;

use patchbay_tests::{Card, Configure, Done, FakeAgent, Guest, Machine, patchbay, run};
use patchbay_types::failure::{Failure, Kind};
use serde_json::{Value, json};

fn card(number: usize) -> Card {
    let address = format!("172.{}.0.3/16", 15 + number);
    Card::numbered(number).address(&address)
}

fn with_cards(machine: Machine, count: usize) -> Guest {
    let guest = Guest::start(machine);
    for number in 1..=count {
        guest.plug(&card(number)).ok();
    }
    guest
}

/// Renames an interface of the guest as every kernel allows it.
fn rename(guest: &Guest, from: &str, to: &str) {
    let script =
        format!("ip link set {from} down && ip link set {from} name {to} && ip link set {to} up");
    guest.shell(&script).ok();
}

fn nic(guest: &Guest, words: &[&str]) -> Done {
    guest.patchbay(&[&["nic", words[0], guest.id()], &words[1..]].concat())
}

/// Returns the cards of `list-ifaces`, after comparing their names and states with the other lists.
fn listed(guest: &Guest) -> Value {
    let listed = guest.kata_network("list-ifaces", "").json();
    let native = nic(guest, &["list"]).json();
    let doctor = guest.patchbay(&["doctor", guest.id(), "--json"]).json();
    let common = |cards: &Value| -> Vec<Value> {
        let cards = cards.as_array().unwrap().iter();
        let mut cards: Vec<Value> = cards
            .map(|card| json!([card["name"], card["guestName"], card["state"]]))
            .collect();
        cards.sort_by_key(ToString::to_string);
        cards
    };
    assert_eq!(common(&native), common(&listed));
    assert_eq!(common(&doctor["cards"]), common(&listed));
    listed
}

/// Returns the names under which QEMU's cards were plugged.
fn plugged(guest: &Guest) -> Vec<String> {
    let devices = guest.monitor().devices().into_iter();
    let mut names: Vec<String> = devices
        .filter_map(|id| Some(id.strip_prefix("pbd.")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Returns the present name of the card with this number in the guest, by its MAC address.
fn name_in_guest(guest: &Guest, number: usize) -> String {
    let links = guest.ip("link show");
    let mac = format!("02:00:00:00:00:{number:02}");
    let mut links = links.as_array().unwrap().iter();
    let link = links.find(|link| link["address"] == mac).unwrap();
    link["ifname"].as_str().unwrap().to_owned()
}

#[test]
fn renamed_card_is_found_by_either_name() {
    let guest = with_cards(Machine::Q35, 2);
    rename(&guest, "eth1", "wan0");
    assert_eq!(
        listed(&guest)[0],
        json!({"name": "eth1", "mac": "02:00:00:00:00:01", "ip": ["172.16.0.3/16"], "mtu": 1500,
               "guestName": "wan0"})
    );
    let report = guest.patchbay(&["doctor", guest.id()]).ok();
    assert!(
        report.contains("from tap1, plugged, 'wan0' in the guest"),
        "{report}"
    );
    let repeated = guest.plug(&card(1));
    repeated.assert_null_error(Kind::Exists, "interface eth1 is already exist");
    assert!(repeated.err.contains("'wan0'"), "{repeated}");

    for (name, mtu) in [("eth1", 1400), ("wan0", 1300)] {
        let document = json!({"name": name, "mtu": mtu});
        guest
            .kata_network("update-iface", &document.to_string())
            .ok();
        assert_eq!(guest.ip("link show wan0")[0]["mtu"], mtu);
    }
    let route =
        json!({"dest": "10.0.0.0/8", "gateway": "172.16.0.1", "device": "eth1"}).to_string();
    guest.kata_network("add-route", &route).ok();
    assert_eq!(guest.ip("route show 10.0.0.0/8")[0]["dev"], "wan0");
    guest.kata_network("del-route", &route).ok();
    assert_eq!(guest.ip("route show 10.0.0.0/8"), json!([]));
    let unknown = guest.kata_network("add-route", &route.replace("eth1", "eth3"));
    unknown.assert_null_error(Kind::NotFound, "Could not find link from device eth3");

    let neighbor = json!({"toIPAddress": {"address": "172.16.0.9"}, "device": "eth1",
                          "lladdr": "02:00:00:00:00:99"})
    .to_string();
    guest.kata_network("add-neighbor", &neighbor).ok();
    assert_eq!(
        guest.ip("neigh show dev wan0 nud permanent")[0]["dst"],
        "172.16.0.9"
    );
    guest.kata_network("del-neighbor", &neighbor).ok();

    let missing = nic(&guest, &["del", "--name", "eth3"]);
    missing.assert_error(
        Kind::NotFound,
        "the sandbox has no card with the name 'eth3'",
    );
    guest.unplug(&card(3)).assert_null();
    assert_eq!(plugged(&guest), ["eth1", "eth2"]);

    nic(&guest, &["del", "--name", "wan0"]).ok();
    assert_eq!(plugged(&guest), ["eth2"]);
    rename(&guest, "eth2", "lan0");
    guest.unplug(&card(2)).assert_null();
    assert_eq!(plugged(&guest), Vec::<String>::new());
}

#[test]
fn ambiguous_name_changes_no_card() {
    let guest = with_cards(Machine::Q35, 2);
    rename(&guest, "eth1", "x");
    rename(&guest, "eth2", "eth1");
    rename(&guest, "x", "eth2");
    let before = guest.snapshot();
    for name in ["eth1", "eth2"] {
        let document = json!({"name": name}).to_string();
        let done = guest.kata_network("del-iface", &document);
        done.assert_error(Kind::Invalid, &format!("name '{name}' is ambiguous"));
        for part in ["02:00:00:00:00:01 (plugged as eth1, now 'eth2')", "--mac"] {
            assert!(done.err.contains(part), "{part}: {done}");
        }
        for words in [["del", "--name", name], ["apply", "--name", name]] {
            nic(&guest, &words).assert_error(Kind::Invalid, "is ambiguous");
        }
        let done = nic(&guest, &["set", "--name", name, "--mtu", "1400"]);
        done.assert_error(Kind::Invalid, &format!("the name {name} is ambiguous"));
    }
    assert_eq!(guest.snapshot(), before);
    // Lists of routes show the names in the guest, and are valid requests.
    let route = json!({"dest": "10.0.0.0/8", "gateway": "172.17.0.1", "device": "eth1"});
    guest.kata_network("add-route", &route.to_string()).ok();
    assert_eq!(
        guest.ip("route show 10.0.0.0/8")[0]["gateway"],
        "172.17.0.1"
    );
    nic(&guest, &["del", "--mac", "02:00:00:00:00:01"]).ok();
    assert_eq!(plugged(&guest), ["eth2"]);
    nic(&guest, &["del", "--name", "eth1"]).ok();
    assert_eq!(plugged(&guest), Vec::<String>::new());
}

/// Hides four cards in the guest, each in another way; the first becomes visible again.
fn hidden_cards_are_listed_and_removed(machine: Machine) {
    let guest = with_cards(machine, 5);
    let device = |number: usize| {
        let name = format!("/sys/class/net/eth{number}/device");
        let path = guest.exec(&format!("readlink -f {name}")).ok();
        path.trim_end().to_owned()
    };
    let (second, third) = (device(2), device(3));
    let fourth = device(4);
    let name = |path: &str| path.rsplit_once('/').unwrap().1.to_owned();
    let parent = |path: &str| path.rsplit_once('/').unwrap().0.to_owned();
    guest
        .shell("ip netns add x && ip link set eth1 netns x")
        .ok();
    let unbind = "/sys/bus/virtio/drivers/virtio_net/unbind";
    guest
        .shell(&format!("echo {} >{unbind}", name(&second)))
        .ok();
    guest
        .shell(&format!("echo 1 >{}/remove", parent(&third)))
        .ok();
    let unbind = "/sys/bus/pci/drivers/virtio-pci/unbind";
    guest
        .shell(&format!("echo {} >{unbind}", name(&parent(&fourth))))
        .ok();

    let states = [
        "in another network namespace",
        "without a driver",
        "not on the guest's PCI bus",
        "without a driver",
    ];
    let cards = listed(&guest);
    assert_eq!(cards[0]["name"], "eth5");
    assert_eq!(cards[0].get("state"), None);
    for (number, state) in (1..).zip(states) {
        let mac = format!("02:00:00:00:00:{number:02}");
        let hidden = json!({"name": format!("eth{number}"), "mac": mac, "state": state});
        assert!(
            cards.as_array().unwrap().contains(&hidden),
            "{hidden}: {cards}"
        );
        let repeated = guest.plug(&card(number));
        let message = format!("interface eth{number} is already exist (in the guest: {state})");
        repeated.assert_null_error(Kind::Exists, &message);
        let apply = nic(&guest, &["apply", "--name", &format!("eth{number}")]);
        apply.assert_error(Kind::NotYet, state);
    }
    update_names_the_place(&guest);
    guest.shell("ip netns exec x ip link set eth1 netns 1").ok();
    assert_eq!(listed(&guest)[0].get("state"), None);
    guest.shell("ip link set eth1 netns x").ok();
    for number in 1..=5 {
        guest.unplug(&card(number)).assert_null();
    }
    assert_eq!(guest.kata_network("list-ifaces", "").ok(), "null\n");
    assert_eq!(guest.monitor().backends(), "");
    guest.plug(&card(1)).ok();
}

/// Updates the card that is not on the PCI bus.
fn update_names_the_place(guest: &Guest) {
    let change = json!({"name": "eth3", "mtu": 1400}).to_string();
    let update = guest.kata_network("update-iface", &change);
    update.assert_null_error(Kind::NotFound, "can not find the network interface eth3");
    assert!(
        update
            .err
            .contains("its card is not on the guest's PCI bus"),
        "{update}"
    );
}

#[test]
fn hidden_cards_of_q35_are_listed_and_removed() {
    hidden_cards_are_listed_and_removed(Machine::Q35);
}

#[test]
fn hidden_cards_of_pc_are_listed_and_removed() {
    hidden_cards_are_listed_and_removed(Machine::Pc);
}

/// Without ACPI, unplugging needs the guest's driver of the root port.
#[test]
fn hidden_cards_of_native_hotplug_are_removed() {
    let native = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off";
    let words = ["--extra-qemu-arg", "-global", "--extra-qemu-arg", native];
    let guest = Guest::start_with(Machine::Q35, &words);
    for number in 1..=2 {
        guest.plug(&card(number)).ok();
    }
    guest
        .shell("ip netns add x && ip link set eth1 netns x")
        .ok();
    guest
        .shell("echo 1 >/sys/class/net/eth2/device/../remove")
        .ok();
    assert_eq!(listed(&guest)[1]["state"], "not on the guest's PCI bus");
    for number in 1..=2 {
        guest.unplug(&card(number)).assert_null();
    }
    assert_eq!(guest.monitor().backends(), "");
}

/// An agent of the first release can't locate cards, and a guest without an agent shows no names.
#[test]
fn cards_of_older_or_absent_agent_are_listed_or_removed() {
    let guest = with_cards(Machine::Q35, 2);
    let socket = guest.file("fake.sock");
    let refusal = Configure::Refuse(Failure::new(Kind::Kernel, "no"));
    let _agent = FakeAgent::serve(&socket, refusal);
    let run = |agent: &Path, words: &[&str]| {
        let mut command = patchbay(guest.run_dir(), words);
        command.args(["--agent", &format!("unix://{}", agent.display()), "--qmp"]);
        run(command.arg(guest.file("qmp.sock")), &card(1).json())
    };
    let listed = run(&socket, &["kata-network", "list-ifaces", "x"]).json();
    for (number, card) in (1..).zip(listed.as_array().unwrap()) {
        assert_eq!(card["name"], format!("eth{number}"));
        assert_eq!(card["state"], "not visible to the agent");
    }
    let repeated = run(&socket, &["kata-network", "add-iface", "x", "-"]);
    let message = "already exist (in the guest: not visible to the agent)";
    repeated.assert_null_error(Kind::Exists, message);

    let nobody = guest.file("nobody.sock");
    let unknown = run(&nobody, &["nic", "del", "x", "--name", "wan0"]);
    unknown.assert_error(Kind::NotFound, "agent does not answer");
    run(&nobody, &["nic", "del", "x", "--name", "eth1"]).ok();
    assert_eq!(plugged(&guest), ["eth2"]);
    run(&nobody, &["nic", "del", "x", "--mac", "02:00:00:00:00:02"]).ok();
    assert_eq!(plugged(&guest), Vec::<String>::new());
}

/// After the restart the kernel calls the cards eth0, eth1 and eth2.
#[test]
fn restarted_guest_is_configured_anew() {
    let guest = with_cards(Machine::Q35, 3);
    let changed = json!({"name": "eth1", "mtu": 1400,
                         "IPAddresses": [{"address": "172.16.0.4", "mask": "16"}]});
    guest
        .kata_network("update-iface", &changed.to_string())
        .ok();
    let fifth = nic(&guest, &["apply", "--name", "eth5"]);
    fifth.assert_error(
        Kind::NotFound,
        "the sandbox has no card with the name 'eth5'",
    );
    guest.reset();

    let state = "not configured since the guest's restart";
    for (number, now) in ["eth0", "eth1", "eth2"].into_iter().enumerate() {
        assert_eq!(name_in_guest(&guest, number + 1), now);
        let card = &listed(&guest)[number];
        assert_eq!(
            (&card["guestName"], &card["state"]),
            (&json!(now), &json!(state))
        );
    }
    let report = guest.patchbay(&["doctor", guest.id()]).ok();
    assert!(report.contains("missing    configured card: "), "{report}");

    let addresses = |name: &str| {
        let link = guest.ip(&format!("addr show {name}"))[0].take();
        (link["mtu"].clone(), link["addr_info"][0]["local"].clone())
    };
    let applied = nic(&guest, &["apply", "--name", "eth1"]).json();
    assert_eq!(
        (&applied["name"], &applied["mtu"]),
        (&json!("eth1"), &json!(1400))
    );
    assert_eq!(addresses("eth1"), (json!(1400), json!("172.16.0.4")));
    guest.plug(&card(3)).ok();
    assert_eq!(addresses("eth3"), (json!(1500), json!("172.18.0.3")));
    let add = [
        "add",
        "--name",
        "eth2",
        "--tap",
        "tap2",
        "--mac",
        "02:00:00:00:00:02",
    ];
    nic(&guest, &[&add[..], &["--ip", "172.17.0.3/16"]].concat()).ok();
    assert_eq!(addresses("eth2"), (json!(1500), json!("172.17.0.3")));
    for (number, card) in listed(&guest).as_array().unwrap().iter().enumerate() {
        assert_eq!(card["name"], format!("eth{}", number + 1));
        assert_eq!((card.get("guestName"), card.get("state")), (None, None));
        assert_eq!(name_in_guest(&guest, number + 1), card["name"]);
    }
    // Nothing is left to do.
    guest.plug(&card(3)).ok();
    let again = nic(&guest, &["apply", "--mac", "02:00:00:00:00:01"]).json();
    assert_eq!(again, applied);
    guest.netns().ip("addr add 172.16.0.1/16 dev tap1").ok();
    guest.netns().exec("ping -c 1 -W 5 172.16.0.4").ok();
}
