//! Plugging and unplugging of cards.

use std::cell::RefCell;

use patchbay_tests::{Card, Guest, Machine, Side, Testpmd, rng};
use serde_json::json;

use super::{card, kata_network, sweep};

/// State outside the guest: devices, backends, character devices and descriptors of QEMU, links of the
/// host, and the journal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outside {
    pub(crate) devices: Vec<String>,
    backends: usize,
    chardevs: usize,
    descriptors: usize,
    links: Vec<Link>,
    /// Filters of the link net1.
    filters: String,
    journal: Vec<String>,
}

impl Outside {
    pub(crate) fn of(guest: &Guest) -> Self {
        let mut monitor = guest.monitor();
        let chardevs = monitor.run("query-chardev", json!({}));
        Self {
            devices: monitor.devices(),
            backends: monitor.backends().lines().count(),
            chardevs: chardevs.as_array().unwrap().len(),
            // Includes the monitor session of this function, always.
            descriptors: guest.qemu_descriptors(),
            links: links(guest),
            filters: filters(guest),
            journal: guest.journal(),
        }
    }
}

/// Name, MTU, administrative state and bridge of a link; the carrier changes asynchronously.
type Link = (String, u64, bool, Option<String>);

fn links(guest: &Guest) -> Vec<Link> {
    let links = guest.netns().ip("-j link show").json();
    let links = links.as_array().unwrap().iter().map(|link| {
        let name = link["ifname"].as_str().unwrap().to_owned();
        let up = link["flags"].as_array().unwrap().contains(&"UP".into());
        let bridge = link["master"].as_str().map(str::to_owned);
        (name, link["mtu"].as_u64().unwrap(), up, bridge)
    });
    links.collect()
}

/// Returns the filters of the link net1, without the index of the action, which counts up.
fn filters(guest: &Guest) -> String {
    let shown = guest.netns().exec("tc filter show dev net1 ingress").out;
    let lines = shown.lines().filter(|line| !line.contains("index "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the card's addresses in the guest.
fn inside(guest: &Guest) -> String {
    guest.exec("ip -o addr show eth-test").out
}

/// Sweeps over plugging or unplugging a card. Every state in between is followed by a random next
/// command.
fn sweep_card(guest: &Guest, command: &'static str, card: &Card) {
    let rng = RefCell::new(rng());
    // The first card leaves QEMU with more descriptors permanently.
    guest.plug(card).ok();
    let plugged = Outside::of(guest);
    guest.unplug(card).ok();
    let absent = Outside::of(guest);
    let converge = || {
        guest.kata_network("list-ifaces", "").ok();
        if rng.borrow_mut().u64(..2) == 0 {
            guest.plug(card).ok();
            assert_eq!(Outside::of(guest), plugged);
            let inside = inside(guest);
            assert!(inside.contains("172.16.0.3/16"), "{inside}");
            assert!(inside.contains("fd00::3/64"), "{inside}");
        } else {
            guest.unplug(card).ok();
            assert_eq!(Outside::of(guest), absent);
            assert_eq!(inside(guest), "");
        }
    };
    let opposite = if command == "add-iface" {
        "del-iface"
    } else {
        "add-iface"
    };
    let prepare = || drop(guest.kata_network(opposite, &card.json()).ok());
    let document = card.json();
    let [begun, undone] = [command, opposite].map(|word| kata_network(guest, word));
    let commands = [(&begun, &*document), (&undone, &*document)];
    let steps = sweep(&rng, &commands, prepare, converge);
    if command == "add-iface" {
        let recorded = steps.iter().position(|step| step.starts_with("rename "));
        let is_change = |step: &String| step.starts_with("qmp ") && !step.starts_with("qmp q");
        let changed = steps.iter().position(is_change);
        assert!(recorded.unwrap() < changed.unwrap(), "{steps:?}");
    }
}

/// Starts a guest whose TAP device exists before the card.
fn with_tap(machine: Machine) -> Guest {
    let guest = Guest::start(machine);
    let add = "tuntap add tap-test mode tap multi_queue";
    guest.netns().ip(add).ok();
    guest
}

#[test]
fn plug_existing_tap_killed_is_done_or_undone() {
    sweep_card(&with_tap(Machine::Q35), "add-iface", &card());
}

#[test]
fn unplug_existing_tap_killed_is_done_or_undone() {
    sweep_card(&with_tap(Machine::Q35), "del-iface", &card());
}

#[test]
fn plug_own_tap_killed_is_done_or_undone() {
    sweep_card(&Guest::start(Machine::Pc), "add-iface", &card());
}

#[test]
fn unplug_own_tap_killed_is_done_or_undone() {
    sweep_card(&Guest::start(Machine::Pc), "del-iface", &card());
}

/// Sweeps over a card whose TAP existed before it and is put into a bridge.
fn sweep_bridge(command: &'static str) {
    let guest = with_tap(Machine::Q35);
    // Otherwise its MTU follows that of its ports.
    guest.netns().ip("link add br0 type bridge").ok();
    guest.netns().ip("link set br0 mtu 1300").ok();
    sweep_card(&guest, command, &card().set("bridge", "br0"));
}

#[test]
fn plug_bridged_tap_killed_is_done_or_undone() {
    sweep_bridge("add-iface");
}

#[test]
fn unplug_bridged_tap_killed_is_done_or_undone() {
    sweep_bridge("del-iface");
}

/// Sweeps over a card that mirrors a link.
fn sweep_mirror(command: &'static str) {
    let guest = Guest::start(Machine::Q35);
    let netns = guest.netns();
    for words in [
        "link add net1 mtu 1400 type veth peer peer1",
        "link set net1 up",
        "link set peer1 up",
        "addr add 172.16.0.3/16 dev net1",
        "addr add fd00::3/64 dev net1 nodad",
        "route add 10.2.0.0/16 via 172.16.0.1",
    ] {
        netns.ip(words).ok();
    }
    let card = Card::of_link("net1").set("name", "eth-test").queues(2);
    sweep_card(&guest, command, &card);
}

#[test]
fn plug_mirror_killed_is_done_or_undone() {
    sweep_mirror("add-iface");
}

#[test]
fn unplug_mirror_killed_is_done_or_undone() {
    sweep_mirror("del-iface");
}

/// Sweeps over a card with a permanent vhost-user backend.
fn sweep_port(command: &'static str) {
    let guest = Guest::start(Machine::Q35);
    let socket = guest.file("vhost-user1");
    let _backend = Testpmd::start(guest.netns(), &socket, 2, Side::Server);
    sweep_card(&guest, command, &card().vhost_user(&socket));
}

#[test]
fn plug_vhost_user_killed_is_done_or_undone() {
    sweep_port("add-iface");
}

#[test]
fn unplug_vhost_user_killed_is_done_or_undone() {
    sweep_port("del-iface");
}
