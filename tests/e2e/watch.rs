//! `patchbay watch --once`: cards follow the links of the sandbox's namespace, judged by iproute2 in the
//! guest.

use std::cell::RefCell;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patchbay_tests::{Cni, Done, Guest, Machine, Pod, await_value, patchbay, rng, run};
use serde_json::{Value, json};

use super::kill_anywhere::sweep;
use super::mirror::{BRIDGED, MAC, Outside, redirections};

pub(super) fn once(guest: &Guest, words: &[&str]) -> Done {
    let words = [&["watch", "--once", guest.id()], words].concat();
    guest.patchbay(&words)
}

/// Returns the changes, each as its action and its link.
#[track_caller]
pub(super) fn changes(done: Done) -> Vec<String> {
    let rows = done.json();
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| format!("{} {}", word(row, "action"), word(row, "link")))
        .collect()
}

pub(super) fn in_netns(guest: &Guest, commands: &[&str]) {
    for words in commands {
        guest.netns().ip(words).ok();
    }
}

/// Returns destinations and gateways of the guest's IPv4 routes through gateways.
fn gateways(guest: &Guest) -> Vec<String> {
    let shown = guest.ip("route show");
    let routes = shown.as_array().unwrap().iter();
    let routes = routes.filter_map(|route| {
        let gateway = route["gateway"].as_str()?;
        Some(format!("{} via {gateway}", route["dst"].as_str().unwrap()))
    });
    let mut routes: Vec<_> = routes.collect();
    routes.sort();
    routes
}

fn neighbors(guest: &Guest) -> Vec<String> {
    let shown = guest.exec("ip neigh show nud permanent").ok();
    let lines = shown.lines().filter(|line| line.contains("dev net1"));
    lines.map(|line| line.trim().to_owned()).collect()
}

fn appearing_link_is_plugged(guest: &Guest) {
    let before = (guest.snapshot(), redirections(guest));
    let planned = once(guest, &["--dry-run"]);
    assert_eq!(changes(planned), ["plug net1"]);
    assert_eq!((guest.snapshot(), redirections(guest)), before);
    assert_eq!(changes(once(guest, &[])), ["plug net1"]);
    let link = &guest.ip("link show net1")[0];
    assert_eq!(
        (&link["address"], &link["mtu"]),
        (&json!(MAC), &json!(1400))
    );
    assert_eq!(guest.addresses("net1"), ["10.1.0.2/24", "fd01::2/64"]);
    assert_eq!(gateways(guest), ["10.2.0.0/16 via 10.1.0.1"]);
    guest.exec("ping -c 2 -W 5 10.2.0.1").ok();
    let settled = (guest.snapshot(), redirections(guest));
    assert_eq!(changes(once(guest, &[])), [""; 0]);
    assert_eq!((guest.snapshot(), redirections(guest)), settled);
}

const CHANGES: [&str; 8] = [
    "addr add 10.1.0.5/24 dev net1",
    "addr del fd01::2/64 dev net1",
    "link set net1 mtu 1300",
    "route add 10.4.0.0/16 via 10.1.0.1",
    "route del 10.2.0.0/16",
    "neigh del 10.1.0.77 dev net1",
    "neigh add 10.1.0.78 lladdr 02:00:00:00:00:78 dev net1 nud permanent",
    "neigh add 10.1.0.79 lladdr 02:00:00:00:00:79 dev net1 nud permanent",
];

fn changed_link_is_followed(guest: &Guest, outside: &Outside) {
    guest.exec("ip route add 10.66.0.0/16 via 10.1.0.1").ok();
    guest
        .exec("ip neigh add 10.1.0.66 lladdr 02:00:00:00:00:66 dev net1 nud permanent")
        .ok();
    let index = guest.ip("link show net1")[0]["ifindex"].clone();
    in_netns(guest, &CHANGES);
    let tap = |guest: &Guest| {
        let links = guest.netns().ip("-j link show").json();
        let links = links.as_array().unwrap().clone();
        let is_tap = |link: &Value| link["ifname"].as_str().unwrap().starts_with("pbt");
        links.into_iter().find(is_tap).unwrap()["mtu"].clone()
    };
    assert_eq!(tap(guest), json!(1400));
    assert_eq!(changes(once(guest, &["--dry-run"])), ["update net1"]);
    assert_eq!(changes(once(guest, &[])), ["update net1"]);
    let link = &guest.ip("link show net1")[0];
    assert_eq!(
        (&link["mtu"], &link["ifindex"], tap(guest)),
        (&json!(1300), &index, json!(1300))
    );
    assert_eq!(guest.addresses("net1"), ["10.1.0.2/24", "10.1.0.5/24"]);
    // Those of the guest's own programs stay.
    assert_eq!(
        gateways(guest),
        ["10.4.0.0/16 via 10.1.0.1", "10.66.0.0/16 via 10.1.0.1"]
    );
    let mut listed = neighbors(guest);
    listed.sort();
    let of = |number| format!("10.1.0.{number} dev net1 lladdr 02:00:00:00:00:{number} PERMANENT");
    assert_eq!(listed, [of(66), of(78), of(79)]);
    in_netns(
        guest,
        &["neigh replace 10.1.0.79 lladdr 02:00:00:00:00:66 dev net1 nud permanent"],
    );
    assert_eq!(changes(once(guest, &[])), ["update net1"]);
    let replaced = "10.1.0.79 dev net1 lladdr 02:00:00:00:00:66 PERMANENT";
    assert!(neighbors(guest).contains(&replaced.to_owned()));
    outside.0.exec("ping -c 2 -W 5 10.1.0.5").ok();
    assert_eq!(changes(once(guest, &[])), [""; 0]);
}

fn set(guest: &Guest, name: &str, words: &[&str]) {
    let command = ["nic", "set", guest.id(), "--name", name];
    guest.patchbay(&[&command[..], words].concat()).ok();
}

fn replaced_link_is_plugged_anew(guest: &Guest) {
    set(guest, "net1", &["--rx-limit", "20mbit"]);
    set(guest, "net1", &["--promisc", "on", "--arp", "off"]);
    in_netns(
        guest,
        &[
            "link set net1 down",
            "link set net1 address 02:00:00:00:00:12",
            "link set net1 up",
        ],
    );
    assert_eq!(changes(once(guest, &[])), ["replug net1"]);
    let link = &guest.ip("link show net1")[0];
    assert_eq!(link["address"], json!("02:00:00:00:00:12"));
    // The card has what `nic set` has given to the one before.
    let flags = link["flags"].as_array().unwrap();
    for flag in ["PROMISC", "NOARP"] {
        assert!(flags.contains(&json!(flag)), "{flags:?}");
    }
    let qdiscs = guest.netns().exec("tc qdisc").ok();
    assert!(qdiscs.contains("rate 20Mbit"), "{qdiscs}");
    in_netns(
        guest,
        &[
            "link set net1 down",
            "link set net1 name net9",
            "link set net9 up",
        ],
    );
    assert_eq!(changes(once(guest, &[])), ["unplug net1", "plug net9"]);
    assert_eq!(guest.addresses("net9"), ["10.1.0.2/24", "10.1.0.5/24"]);
    assert_ne!(guest.exec("ip link show net1").status, 0);
    set(guest, "net9", &["--rename", "wan0"]);
    // The filter is all that makes the card reach its link.
    guest.netns().exec("tc qdisc del dev net9 ingress").ok();
    assert_eq!(changes(once(guest, &[])), ["replug net9"]);
    assert_eq!(guest.addresses("wan0"), ["10.1.0.2/24", "10.1.0.5/24"]);
    guest.exec("ping -c 2 -W 5 10.1.0.1").ok();
    in_netns(guest, &["link set net9 down"]);
    assert_eq!(changes(once(guest, &[])), [""; 0]);
    in_netns(guest, &["link del net9"]);
    assert_eq!(changes(once(guest, &[])), ["unplug net9"]);
    assert_ne!(guest.exec("ip link show wan0").status, 0);
}

#[test]
fn watch_once_makes_cards_those_of_links() {
    let guest = Guest::start(Machine::Q35);
    let empty = guest.snapshot();
    let outside = Outside::of(&guest, &BRIDGED);
    appearing_link_is_plugged(&guest);
    changed_link_is_followed(&guest, &outside);
    replaced_link_is_plugged_anew(&guest);
    assert_eq!(guest.snapshot(), empty);
}

/// A plugin that comes later gets the card of its link.
#[test]
fn cni_takes_over_card_of_watch() {
    let guest = Guest::start(Machine::Q35);
    let _outside = Outside::of(&guest, &BRIDGED);
    assert_eq!(changes(once(&guest, &[])), ["plug net1"]);
    let devices = guest.monitor().devices();
    let cni = Cni::new(guest.run_dir());
    let pod = Pod::of(&guest, "net1");
    let mut config = Cni::patchbay();
    config["cniVersion"] = json!("1.0.0");
    config["name"] = json!("blue");
    config["prevResult"] = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "mac": MAC, "sandbox": pod.netns}],
        "ips": [{"address": "10.1.0.2/24", "interface": 0}],
    });
    let config = config.to_string();
    run(&mut cni.plugin("ADD", &pod), &config).ok();
    assert_eq!(guest.monitor().devices(), devices);
    in_netns(&guest, &["addr add 10.1.0.5/24 dev net1"]);
    assert_eq!(changes(once(&guest, &[])), [""; 0]);
    assert_eq!(guest.addresses("net1"), ["10.1.0.2/24", "fd01::2/64"]);
    run(&mut cni.plugin("DEL", &pod), &config).ok();
    assert_ne!(guest.exec("ip link show net1").status, 0);
}

/// Routes and neighbors are changed one after another: whichever step is the last, the next run
/// completes them.
#[test]
fn watch_once_killed_is_completed_by_the_next() {
    let guest = Guest::start(Machine::Q35);
    let _outside = Outside::of(&guest, &BRIDGED);
    once(&guest, &[]).ok();
    guest.exec("ip route add 10.66.0.0/16 via 10.1.0.1").ok();
    let before = [
        "addr replace 10.1.0.2/24 dev net1",
        "route replace 10.2.0.0/16 via 10.1.0.1",
        "neigh replace 10.1.0.77 lladdr 02:00:00:00:00:77 dev net1 nud permanent",
        "link set net1 mtu 1400",
    ];
    let prepare = || {
        for words in [
            "addr del 10.1.0.5/24 dev net1",
            "route del 10.4.0.0/16",
            "neigh del 10.1.0.78 dev net1",
        ] {
            drop(guest.netns().ip(words));
        }
        in_netns(&guest, &before);
        once(&guest, &[]).ok();
        assert_eq!(guest.addresses("net1"), ["10.1.0.2/24", "fd01::2/64"]);
        in_netns(
            &guest,
            &[
                "addr add 10.1.0.5/24 dev net1",
                "route replace 10.4.0.0/16 via 10.1.0.1",
                "route del 10.2.0.0/16",
                "neigh del 10.1.0.77 dev net1",
                "neigh replace 10.1.0.78 lladdr 02:00:00:00:00:78 dev net1 nud permanent",
                "link set net1 mtu 1300",
            ],
        );
    };
    let converge = || {
        once(&guest, &[]).ok();
        assert_eq!(
            guest.addresses("net1"),
            ["10.1.0.2/24", "10.1.0.5/24", "fd01::2/64"]
        );
        assert_eq!(
            gateways(&guest),
            ["10.4.0.0/16 via 10.1.0.1", "10.66.0.0/16 via 10.1.0.1"]
        );
        let neighbor = "10.1.0.78 dev net1 lladdr 02:00:00:00:00:78 PERMANENT";
        assert_eq!(neighbors(&guest), [neighbor]);
        assert_eq!(guest.ip("link show net1")[0]["mtu"], json!(1300));
        assert_eq!(changes(once(&guest, &[])), [""; 0]);
    };
    let command = patchbay(guest.run_dir(), &["watch", "--once", guest.id()]);
    sweep(&RefCell::new(rng()), &[(&command, "")], prepare, converge);
}

/// Its routes come back with `nic apply`.
#[test]
fn watch_once_follows_the_link_of_a_card_that_is_down() {
    let guest = Guest::start(Machine::Q35);
    let _outside = Outside::of(&guest, &BRIDGED);
    assert_eq!(changes(once(&guest, &[])), ["plug net1"]);
    let set = ["nic", "set", guest.id(), "--name", "net1", "--state"];
    guest.patchbay(&[&set[..], &["down"]].concat()).ok();
    in_netns(
        &guest,
        &[
            "addr add 10.1.0.5/24 dev net1",
            "route add 10.4.0.0/16 via 10.1.0.1",
        ],
    );
    assert_eq!(changes(once(&guest, &[])), ["update net1"]);
    assert_eq!(changes(once(&guest, &[])), [""; 0]);
    assert_eq!(
        guest.addresses("net1"),
        ["10.1.0.2/24", "10.1.0.5/24", "fd01::2/64"]
    );
    guest.patchbay(&[&set[..], &["up"]].concat()).ok();
    guest
        .patchbay(&["nic", "apply", guest.id(), "--name", "net1"])
        .ok();
    let shown = guest.exec("ip route show").ok();
    for route in ["10.2.0.0/16 via 10.1.0.1", "10.4.0.0/16 via 10.1.0.1"] {
        assert!(shown.contains(route), "{shown}");
    }
}

/// Second sandbox in the run directory of a guest, which is stopped when this is dropped.
struct Stopped<'a>(&'a Guest, &'a str);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.sandbox(&["stop", self.1]);
    }
}

/// The namespace of a pod outlives its machine.
#[test]
fn watch_once_serves_links_of_a_machine_that_has_ended() {
    let guest = Guest::start(Machine::Q35);
    let _outside = Outside::of(&guest, &BRIDGED);
    assert_eq!(changes(once(&guest, &[])), ["plug net1"]);
    let pid = guest.registered()["pid"].as_i64().unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    await_value(&false, || Path::new(&format!("/proc/{pid}/fd/0")).exists());
    let next = "6ec7a98-next";
    let start = ["start", next, "--netns", guest.netns().name(), "--tools"];
    let _next = Stopped(&guest, next);
    guest.sandbox(&start).ok();
    let plugged = guest.patchbay(&["watch", "--once", next]);
    assert_eq!(changes(plugged), ["plug net1"]);
    let shown = guest.sandbox(&["exec", next, "--", "ip", "addr", "show", "net1"]);
    assert!(shown.out.contains("inet 10.1.0.2/24"), "{shown}");
}
