//! Cable and bandwidth limits of a card, judged by `tc`, by `ip` on both sides and by traffic.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use patchbay_tests::{Guest, Machine, Netns, Side, Testpmd, patchbay, rng, traffic};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

use super::failing_calls;
use super::kill_anywhere;
use super::native::native;

/// Echo service of the guest.
const ECHO: &str = "10.0.0.2:7";

/// Card of the tests, on a TAP that existed before.
fn plug(guest: &Guest) {
    guest.netns().ip("tuntap add tap1 mode tap").ok();
    guest.netns().ip("addr add 10.0.0.1/24 dev tap1").ok();
    native(guest, "nic add ID eth1 --tap tap1 --ip 10.0.0.2/24").ok();
}

/// Qdiscs of a link, without the kernel's default.
fn qdiscs(netns: &Netns, link: &str) -> Vec<Value> {
    let shown = netns
        .exec(&format!("tc -s -j qdisc show dev {link}"))
        .json();
    let shown = shown.as_array().unwrap().iter();
    let chosen = shown.filter(|qdisc| qdisc["handle"] != "0:");
    chosen.cloned().collect()
}

/// Returns rate in bits per second and burst of the `tbf` at a link's root.
fn limit(netns: &Netns, link: &str) -> Option<(u64, u64)> {
    let root = qdiscs(netns, link)
        .into_iter()
        .find(|qdisc| qdisc["root"] == true)?;
    assert_eq!(root["kind"], "tbf", "{root}");
    let number = |key: &str| root["options"][key].as_u64().unwrap();
    Some((number("rate") * 8, number("burst").next_multiple_of(1024)))
}

/// Name of the device through which the frames of the card pass.
fn shaper(netns: &Netns) -> Option<String> {
    let links = netns.links().into_iter();
    let mut shapers = links.filter(|link| link.starts_with("pbi"));
    let shaper = shapers.next();
    assert_eq!(shapers.next(), None);
    shaper
}

fn has_carrier(guest: &Guest) -> bool {
    let flags = guest.ip("link show eth1")[0]["flags"].clone();
    flags.as_array().unwrap().contains(&json!("LOWER_UP"))
}

fn limits(guest: &Guest) -> [Option<(u64, u64)>; 2] {
    let netns = guest.netns();
    let sent = shaper(netns).map(|device| {
        let filters = netns.exec("tc filter show dev tap1 ingress").ok();
        assert!(
            filters.contains(&format!("Redirect to device {device}")),
            "{filters}"
        );
        limit(netns, &device)
    });
    if sent.is_none() {
        assert_eq!(netns.exec("tc filter show dev tap1 ingress").out, "");
        let kinds = qdiscs(netns, "tap1");
        assert!(
            kinds.iter().all(|qdisc| qdisc["kind"] != "ingress"),
            "{kinds:?}"
        );
    }
    [limit(netns, "tap1"), sent.flatten()]
}

/// Waits until the guest sees the cable.
fn await_cable(guest: &Guest, state: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while has_carrier(guest) != (state == "up") {
        assert!(
            Instant::now() < deadline,
            "the guest has not seen the cable"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nic_set_on_host_changes_cable_and_limits() {
    let guest = Guest::start(Machine::Q35);
    plug(&guest);
    cable_is_unplugged_and_plugged_in(&guest);
    traffic_is_limited(&guest);
    limits_are_listed_repaired_and_removed(&guest);
    refusals_change_nothing(&guest);
    unplug_removes_limits(&guest);
    own_tap_has_limits(&guest);
}

fn cable_is_unplugged_and_plugged_in(guest: &Guest) {
    let ping = || guest.netns().exec("ping -c 1 -W 1 10.0.0.2").status;
    let set = native(guest, "nic set ID --name eth1 --cable down").json();
    assert_eq!(set, json!({"name": "eth1", "cable": "down"}));
    await_cable(guest, "down");
    assert_ne!(ping(), 0);
    assert_eq!(native(guest, "nic show ID eth1").json()["cable"], "down");
    // A restart of the guest leaves it unplugged, and nic apply too.
    guest.reset();
    native(guest, "nic apply ID --name eth1").ok();
    assert!(!has_carrier(guest));
    assert_eq!(
        native(guest, "nic list ID --all").json()[0]["cable"],
        "down"
    );
    native(guest, "nic set ID --name eth1 --cable up").ok();
    await_cable(guest, "up");
    guest.netns().exec("ping -c 1 -w 10 10.0.0.2").ok();
}

fn traffic_is_limited(guest: &Guest) {
    let words = "nic set ID --name eth1 --rx-limit 20mbit --tx-limit 10mbit --tx-burst 256kb";
    let changed = native(guest, words).json();
    let expected = json!({"name": "eth1", "cable": "up", "rxLimit": 20_000_000, "rxBurst": 131_072,
                          "txLimit": 10_000_000, "txBurst": 262_144});
    assert_eq!(changed, expected);
    let (received, sent) = ((20_000_000, 131_072), (10_000_000, 262_144));
    assert_eq!(limits(guest), [Some(received), Some(sent)]);
    let (went, came) = traffic::echo(guest.netns(), ECHO.parse().unwrap(), 4 << 20);
    assert_eq!(went, came);
    let device = shaper(guest.netns()).unwrap();
    for link in ["tap1", &device] {
        let root = qdiscs(guest.netns(), link).remove(0);
        assert!(root["bytes"].as_u64().unwrap() >= 4 << 20, "{root}");
        assert!(root["overlimits"].as_u64().unwrap() > 0, "{root}");
    }
    // Another rate of one direction keeps the other one.
    native(guest, "nic set ID --name eth1 --rx-limit 1gbit").ok();
    assert_eq!(limits(guest)[1], Some(sent));
    assert_eq!(limits(guest)[0].unwrap().0, 1_000_000_000);
    assert_eq!(shaper(guest.netns()), Some(device));
}

fn limits_are_listed_repaired_and_removed(guest: &Guest) {
    let before = limits(guest);
    let shown = native(guest, "nic show ID eth1").json();
    assert_eq!(shown["rxLimit"], 1_000_000_000, "{shown}");
    assert_eq!(shown["txBurst"], 262_144, "{shown}");
    let device = shaper(guest.netns()).unwrap();
    guest.netns().exec("tc qdisc del dev tap1 root").ok();
    guest.netns().ip(&format!("link del {device}")).ok();
    native(guest, "nic apply ID --name eth1").ok();
    assert_eq!(limits(guest), before);
    guest.netns().exec("ping -c 1 -W 5 10.0.0.2").ok();
    native(guest, "nic set ID --name eth1 --tx-limit off").ok();
    assert_eq!(
        (limits(guest), shaper(guest.netns())),
        ([before[0], None], None)
    );
    native(guest, "nic set ID --name eth1 --rx-limit off").ok();
    assert_eq!(limits(guest), [None, None]);
    guest.netns().exec("ping -c 1 -W 5 10.0.0.2").ok();
}

fn refusals_change_nothing(guest: &Guest) {
    let outside = kill_anywhere::Outside::of(guest);
    for (words, kind, message) in [
        (
            "--cable down --mtu 1400",
            Kind::Invalid,
            "cannot be used with",
        ),
        ("--rx-burst 1mb", Kind::Invalid, "--rx-limit"),
        (
            "--rx-limit 1tbit",
            Kind::Invalid,
            "'1tbit' is not allowed: a rate is",
        ),
        (
            "--rx-limit 64kbit --rx-burst 64mb",
            Kind::Invalid,
            "rxBurst '64mb' is not allowed",
        ),
    ] {
        let words = format!("nic set ID --name eth1 {words}");
        native(guest, &words).assert_error(kind, message);
    }
    native(guest, "nic set ID --name eth9 --cable down").assert_error(Kind::NotFound, "'eth9'");
    let set = "nic set ID --name eth1 --cable down --tx-limit 1mbit --rx-limit 1mbit";
    for (other, undo, message) in [
        (
            "tc qdisc add dev tap1 root handle 1: pfifo",
            "tc qdisc del dev tap1 root",
            "has a qdisc of another program",
        ),
        (
            "tc qdisc add dev tap1 ingress",
            "tc qdisc del dev tap1 ingress",
            "",
        ),
    ] {
        guest.netns().exec(other).ok();
        if message.is_empty() {
            let filter =
                "tc filter add dev tap1 ingress protocol all pref 1 u32 match u8 0 0 classid 1:1";
            guest.netns().exec(filter).ok();
            native(guest, set).assert_error(Kind::Exists, "filtered or redirected already");
        } else {
            native(guest, set).assert_error(Kind::Exists, message);
        }
        guest.netns().exec(undo).ok();
        assert!(has_carrier(guest));
        assert_eq!(limits(guest), [None, None]);
    }
    assert_eq!(kill_anywhere::Outside::of(guest), outside);
}

/// The TAP stays, as it was before the card.
fn unplug_removes_limits(guest: &Guest) {
    native(
        guest,
        "nic set ID --name eth1 --rx-limit 1mbit --tx-limit 1mbit",
    )
    .ok();
    assert!(shaper(guest.netns()).is_some());
    native(guest, "nic del ID --name eth1").ok();
    assert_eq!(limits(guest), [None, None]);
    assert_eq!(guest.netns().links(), ["tap1"]);
    // A new card has none.
    native(guest, "nic add ID eth1 --tap tap1 --ip 10.0.0.2/24").ok();
    assert_eq!(limits(guest), [None, None]);
    assert_eq!(
        native(guest, "nic show ID eth1").json()["rxLimit"],
        Value::Null
    );
    native(guest, "nic del ID --name eth1").ok();
}

fn own_tap_has_limits(guest: &Guest) {
    guest.netns().ip("link del tap1").ok();
    native(guest, "nic add ID eth1 --tap tap1 --queues 2").ok();
    native(
        guest,
        "nic set ID --name eth1 --rx-limit 1mbit --tx-limit 2mbit",
    )
    .ok();
    assert_eq!(
        limits(guest),
        [Some((1_000_000, 131_072)), Some((2_000_000, 131_072))]
    );
    native(guest, "nic del ID --name eth1").ok();
    assert_eq!(guest.netns().links(), [""; 0]);
    // The TAP ends with the machine, and the next command removes the rest.
    native(guest, "nic add ID eth1 --tap tap1").ok();
    native(guest, "nic set ID --name eth1 --tx-limit 2mbit").ok();
    guest.sandbox(&["stop", guest.id()]).ok();
    guest.patchbay(&["gc"]).ok();
    assert_eq!(guest.netns().links(), [""; 0]);
}

#[test]
fn limits_of_other_backends_are_refused() {
    let guest = Guest::start(Machine::Q35);
    for words in [
        "link add net1 type veth peer peer1",
        "link set net1 up",
        "link set peer1 up",
        "addr add 10.0.0.2/24 dev net1",
    ] {
        guest.netns().ip(words).ok();
    }
    native(&guest, "nic add ID --link net1").ok();
    native(&guest, "nic set ID --name net1 --tx-limit 1mbit")
        .assert_error(Kind::Invalid, "limit that");
    native(&guest, "nic set ID --name net1 --rx-limit 1mbit").ok();
    assert!(limit(guest.netns(), &tap_of(&guest)).is_some());
    native(&guest, "nic del ID --name net1").ok();
    let socket = guest.file("vhost-user1");
    let _backend = Testpmd::start(guest.netns(), &socket, 1, Side::Server);
    let add = format!("nic add ID eth2 --vhost-user {}", socket.display());
    native(&guest, &add).ok();
    for direction in ["rx", "tx"] {
        let set = format!("nic set ID --name eth2 --{direction}-limit 1mbit");
        native(&guest, &set).assert_error(Kind::Invalid, "'eth2' has no TAP device");
    }
    let set = native(&guest, "nic set ID --name eth2 --cable down").json();
    assert_eq!(set["cable"], "down");
}

fn tap_of(guest: &Guest) -> String {
    let row = native(guest, "nic list ID --all").json()[0].clone();
    row["device"].as_str().unwrap().to_owned()
}

const OLD: [&str; 4] = ["--cable", "up", "--rx-limit", "10mbit"];
const NEW: [&str; 8] = [
    "--cable",
    "down",
    "--rx-limit",
    "20mbit",
    "--rx-burst",
    "1mb",
    "--tx-limit",
    "30mbit",
];

/// Returns the command with these options.
fn set(guest: &Guest, words: &[&str]) -> std::process::Command {
    let begin = ["nic", "set", guest.id(), "--name", "eth1"];
    patchbay(guest.run_dir(), &[&begin, words].concat())
}

/// Sets the state before the command, and returns it.
fn reset_settings(guest: &Guest) -> [Option<(u64, u64)>; 2] {
    let words = [&OLD[..], &["--tx-limit", "off"]].concat();
    patchbay_tests::run(&mut set(guest, &words), "").ok();
    await_cable(guest, "up");
    limits(guest)
}

/// Asserts that the settings are all those of the old state or all those of the new one, in the kernel, in the guest
/// and in the journal.
fn assert_old_or_new(guest: &Guest, old: [Option<(u64, u64)>; 2]) {
    let found = limits(guest);
    let shown = native(guest, "nic show ID eth1").json();
    let is_old = found == old;
    let new = [Some((20_000_000, 1 << 20)), Some((30_000_000, 131_072))];
    assert!(is_old || found == new, "{found:?}");
    let cable = if is_old { "up" } else { "down" };
    await_cable(guest, cable);
    assert_eq!(shown["cable"], cable, "{shown}");
    for (key, limit) in [("rxLimit", found[0]), ("txLimit", found[1])] {
        assert_eq!(shown[key].as_u64(), limit.map(|(rate, _)| rate), "{shown}");
    }
}

#[test]
fn nic_set_on_host_killed_is_done_or_undone() {
    let guest = Guest::start(Machine::Q35);
    plug(&guest);
    let old = reset_settings(&guest);
    let command = set(&guest, &NEW);
    kill_anywhere::sweep(
        &RefCell::new(rng()),
        &[(&command, "")],
        || {
            reset_settings(&guest);
        },
        || {
            // Finds what the killed one has left.
            native(&guest, "gc").ok();
            assert_old_or_new(&guest, old);
        },
    );
}

#[test]
fn nic_set_on_host_with_a_failing_call_is_undone() {
    let guest = Guest::start(Machine::Q35);
    plug(&guest);
    let old = reset_settings(&guest);
    let command = set(&guest, &NEW);
    failing_calls::sweep(
        (&command, "", failing_calls::busy),
        || {
            reset_settings(&guest);
        },
        |context| {
            assert_eq!(limits(&guest), old, "{context}");
            await_cable(&guest, "up");
        },
        |context| {
            assert_ne!(limits(&guest), old, "{context}");
            await_cable(&guest, "down");
        },
    );
}
