//! `nic set --mac` and `--queues`, which replace a card by another one: judged by `ip`, `ethtool` and `ping` in the
//! guest, by `tc` and `ip` on the host.

use std::cell::RefCell;
use std::process::Command;

use patchbay_tests::tracer::{Point, Stop, kill_at};
use patchbay_tests::{Guest, Machine, patchbay, rng};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

use super::kill_anywhere::{self, Outside};
use super::native::native;

const OLD: &str = "02:00:00:00:00:01";
const NEW: &str = "02:00:00:00:00:77";

/// Plugs a card on a bridge, and changes it.
fn plug(guest: &Guest) {
    for words in [
        "link add br0 type bridge",
        "addr add 10.0.0.1/24 dev br0",
        "link set br0 up",
    ] {
        guest.netns().ip(words).ok();
    }
    let add = format!("nic add ID eth1 --bridge br0 --mac {OLD} --ip 10.0.0.2/24 --ip fd00::2/64");
    native(guest, &add).ok();
    change(guest);
}

/// Changes a card in every way that a replacement keeps.
fn change(guest: &Guest) {
    native(guest, "nic set ID --name eth1 --rx-limit 900mbit").ok();
    native(
        guest,
        "nic set ID --name eth1 --rename wan0 --promisc on --mtu 1400",
    )
    .ok();
    for words in [
        "route add ID --dest 20.0.0.0/16 --dev wan0",
        "route add ID --dest 20.1.0.0/16 --via 20.0.0.9 --dev wan0",
        "route add ID --dest 30.0.0.0/8 --via 10.0.0.7 --dev wan0 --metric 5 --table 100",
        "route add ID --dest fd01::/32 --via fd00::7 --dev wan0 --mtu 1300",
        "neighbor add ID --address 10.0.0.7 --lladdr 02:00:00:00:00:07 --dev wan0",
    ] {
        native(guest, words).ok();
    }
}

/// Configuration in the guest and on the host that a replacement keeps.
fn kept(guest: &Guest) -> [String; 5] {
    let limits = native(guest, "nic show ID eth1").json();
    let of_host = [
        "cable", "rxLimit", "rxBurst", "txLimit", "txBurst", "bridge",
    ];
    let addresses = guest.ip("addr show wan0")[0]["addr_info"].clone();
    let addresses = addresses.as_array().unwrap().iter();
    let global = addresses.filter(|address| address["scope"] == "global");
    let lists = "for list in 'route show table all' '-6 route show' 'neigh show nud permanent'; do \
        ip $list dev wan0; done";
    let link = guest.ip("link show wan0")[0].clone();
    let flags = link["flags"].as_array().unwrap();
    let flags = ["UP", "PROMISC"].map(|flag| flags.contains(&json!(flag)));
    [
        format!("{:?}", of_host.map(|key| limits[key].clone())),
        format!(
            "{:?}",
            global
                .map(|address| address["local"].clone())
                .collect::<Vec<Value>>()
        ),
        format!("{} {flags:?}", link["mtu"]),
        sorted(&guest.shell(lists).ok()),
        guest
            .netns()
            .exec("tc qdisc show")
            .ok()
            .matches("tbf")
            .count()
            .to_string(),
    ]
}

fn sorted(lines: &str) -> String {
    let lines = lines.lines().map(str::trim);
    // The address of the link itself comes later.
    let mut lines: Vec<&str> = lines.filter(|line| !line.contains("fe80::")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn mac(guest: &Guest) -> String {
    guest.ip("link show wan0")[0]["address"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn is_reachable(guest: &Guest) {
    guest.netns().exec("ping -c 1 -W 5 10.0.0.2").ok();
    guest.exec("ping -c 1 -W 5 10.0.0.1").ok();
}

#[test]
fn nic_set_of_the_device_keeps_everything_else() {
    let guest = Guest::start(Machine::Q35);
    plug(&guest);
    // On a device whose name is another one for each plug.
    native(&guest, "nic set ID --name eth1 --tx-limit 800mbit").ok();
    let before = kept(&guest);
    assert!(
        before[3].contains("30.0.0.0/8 via 10.0.0.7") && before[3].contains("20.1.0.0/16"),
        "{before:?}"
    );
    let set = native(
        &guest,
        &format!("nic set ID --name wan0 --mac {NEW} --queues 2"),
    )
    .json();
    assert_eq!(set, json!({"name": "wan0", "hwAddr": NEW, "queues": 2}));
    assert_eq!(kept(&guest), before);
    assert_eq!(mac(&guest), NEW);
    let channels = guest.exec("ethtool -l wan0").ok();
    assert!(channels.contains("Combined:\t2"), "{channels}");
    is_reachable(&guest);
    // Kept by a restart of the guest, and the same again changes nothing.
    let path = |guest: &Guest| native(guest, "nic show ID eth1").json()["pciAddr"].clone();
    let (index, slot) = (
        guest.ip("link show wan0")[0]["ifindex"].clone(),
        path(&guest),
    );
    native(
        &guest,
        &format!("nic set ID --name eth1 --mac {NEW} --queues 2"),
    )
    .ok();
    assert_eq!(
        (
            guest.ip("link show wan0")[0]["ifindex"].clone(),
            path(&guest)
        ),
        (index, slot)
    );
    guest.reset();
    native(&guest, "nic apply ID --name eth1").ok();
    assert_eq!(mac(&guest), NEW);
    refusals_change_nothing(&guest);
}

fn refusals_change_nothing(guest: &Guest) {
    native(
        guest,
        "nic add ID eth2 --bridge br0 --mac 02:00:00:00:00:02",
    )
    .ok();
    for words in ["link add net1 type veth peer net2", "link set net1 up"] {
        guest.netns().ip(words).ok();
    }
    native(guest, "nic add ID eth3 --link net1").ok();
    let before = (Outside::of(guest), kept(guest));
    let set = |words: &str| native(guest, &format!("nic set ID --name {words}"));
    set("eth1 --mac 02:00:00:00:00:02").assert_error(Kind::Exists, "02:00:00:00:00:02");
    set("eth3 --mac 02:00:00:00:00:09").assert_error(Kind::Invalid, "change that of the link");
    set("eth9 --queues 2").assert_error(Kind::NotFound, "eth9");
    for words in [
        "--mac 03:00:00:00:00:09",
        "--queues 0",
        "--queues 2 --mtu 1500",
        "--mac 02:00:00:00:00:09 --cable up",
    ] {
        let refused = set(&format!("eth1 {words}"));
        assert_eq!(refused.status, 2, "{refused}");
    }
    assert_eq!((Outside::of(guest), kept(guest)), before);
    set("eth3 --queues 2").ok();
    assert!(guest.exec("ethtool -l eth3").ok().contains("Combined:\t2"));
}

/// A TAP that existed with one queue can't have two.
#[test]
fn nic_set_of_the_device_that_fails_plugs_the_card_again() {
    let guest = Guest::start(Machine::Q35);
    guest.netns().ip("tuntap add tap1 mode tap").ok();
    guest.netns().ip("addr add 10.0.0.1/24 dev tap1").ok();
    let add = format!("nic add ID eth1 --tap tap1 --mac {OLD} --ip 10.0.0.2/24 --ip fd00::2/64");
    native(&guest, &add).ok();
    change(&guest);
    let (outside, inside) = (Outside::of(&guest), kept(&guest));
    let failed = native(&guest, "nic set ID --name wan0 --queues 2");
    let undone = "the card is plugged again as before";
    assert!(failed.err.contains(undone), "{failed}");
    failed.assert_error(Kind::Invalid, "tap1");
    assert_eq!(kept(&guest), inside);
    assert_eq!(Outside::of(&guest), outside);
    assert_eq!(mac(&guest), OLD);
    is_reachable(&guest);
}

#[test]
fn nic_set_of_the_device_killed_is_done_or_undone() {
    let guest = Guest::start(Machine::Q35);
    plug(&guest);
    let set = |mac: &str| -> Command {
        let words = ["nic", "set", guest.id(), "--name", "eth1", "--mac", mac];
        patchbay(guest.run_dir(), &words)
    };
    // The first replacement leaves QEMU with more descriptors permanently.
    native(&guest, &format!("nic set ID --name eth1 --mac {NEW}")).ok();
    let (outside, inside) = (Outside::of(&guest), kept(&guest));
    let (command, back) = (set(NEW), set(OLD));
    kill_anywhere::sweep(
        &RefCell::new(rng()),
        &[(&command, ""), (&back, "")],
        || drop(native(&guest, &format!("nic set ID --name eth1 --mac {OLD}")).ok()),
        || {
            native(&guest, "gc").ok();
            assert!([OLD, NEW].contains(&&*mac(&guest)), "{}", mac(&guest));
            assert_eq!(kept(&guest), inside);
            assert_eq!(Outside::of(&guest), outside);
        },
    );
}

/// Kills a replacement once the card is unplugged.
fn kill_between(guest: &Guest) {
    let words = ["nic", "set", guest.id(), "--name", "eth1", "--mac", NEW];
    let command = patchbay(guest.run_dir(), &words);
    let is_unplugged = |step: usize| {
        let stop = Stop::After;
        kill_at(&command, "", Point { step, stop });
        let mut monitor = guest.monitor();
        let is_unplugged = !monitor.devices().contains(&"pbd.eth1".to_owned());
        drop(monitor);
        if !is_unplugged {
            native(guest, "gc").ok();
            native(guest, &format!("nic set ID --name eth1 --mac {OLD}")).ok();
        }
        is_unplugged
    };
    assert!((10..150).step_by(3).any(is_unplugged), "the card stays");
}

/// The bridge of the card is gone meanwhile.
#[test]
fn nic_set_of_the_device_killed_and_not_restored_harms_no_later_card() {
    let guest = Guest::start(Machine::Q35);
    plug(&guest);
    let bridge = |words: &str| guest.netns().ip(words).ok();
    kill_between(&guest);
    bridge("link del br0");
    let listed = native(&guest, "nic add ID eth2 --tap tap2");
    assert!(
        listed
            .err
            .contains("eth1, which could not be plugged again"),
        "{listed}"
    );
    listed.ok();
    // Only gc tries again.
    let quiet = native(&guest, "nic del ID --name eth2");
    assert_eq!((quiet.status, &*quiet.err), (0, ""), "{quiet}");
    native(&guest, "gc").assert_error(Kind::NotYet, "eth1 could not be plugged again");
    native(
        &guest,
        "nic add ID eth1 --tap tap1 --mac 02:00:00:00:00:05 --ip 10.0.0.3/24",
    )
    .ok();
    let gave_up = native(&guest, "gc");
    assert!(
        gave_up
            .err
            .contains("eth1 is given up: another card has its name"),
        "{gave_up}"
    );
    assert_eq!(guest.addresses("eth1")[0], "10.0.0.3/24");
    assert_eq!(native(&guest, "gc").err, "");
    native(&guest, "nic del ID --name eth1").ok();

    bridge("link add br0 type bridge");
    native(&guest, &format!("nic add ID eth1 --bridge br0 --mac {OLD}")).ok();
    kill_between(&guest);
    bridge("link del br0");
    native(&guest, "gc").assert_error(Kind::NotYet, "give it up by 'nic del'");
    native(&guest, "nic del ID --name eth1").ok();
    native(&guest, "nic del ID --name eth1").assert_error(Kind::NotFound, "eth1");
    assert_eq!(native(&guest, "gc").err, "");

    bridge("link add br0 type bridge");
    native(&guest, &format!("nic add ID eth1 --bridge br0 --mac {OLD}")).ok();
    kill_between(&guest);
    let restored = native(&guest, "gc");
    assert!(
        restored.err.contains("eth1, which is as before again"),
        "{restored}"
    );
    assert_eq!(guest.ip("link show eth1")[0]["address"], OLD);
}
