//! `nic list --all` and `nic show`, judged by `ip -s` on the host and in the guest.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use patchbay_tests::{Guest, patchbay};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

use super::native::{native, on_a_terminal};

/// Counters of a link, as `ip -s` shows them: direction and name, with the keys of the same counters from
/// the other end of the cable.
const COUNTERS: [([&str; 2], &str); 8] = [
    (["rx", "packets"], "txPackets"),
    (["rx", "bytes"], "txBytes"),
    (["rx", "errors"], "txErrors"),
    (["rx", "dropped"], "txDrops"),
    (["tx", "packets"], "rxPackets"),
    (["tx", "bytes"], "rxBytes"),
    (["tx", "errors"], "rxErrors"),
    (["tx", "dropped"], "rxDrops"),
];

fn on_host(guest: &Guest) -> Value {
    guest.netns().ip("-s -j link show tap1").json()[0]["stats64"].clone()
}

fn row(guest: &Guest) -> Value {
    native(guest, "nic list ID --all").json()[0].clone()
}

/// Asserts that the counters of a row are those of the TAP.
fn assert_counters(guest: &Guest) {
    let before = on_host(guest);
    let row = row(guest);
    let after = on_host(guest);
    for ([direction, name], key) in COUNTERS {
        let number = |value: &Value| value.as_u64().unwrap();
        let of = |stats: &Value| number(&stats[direction][name]);
        let (shown, range) = (number(&row[key]), of(&before)..=of(&after));
        assert!(range.contains(&shown), "{key} is not in {range:?}: {row}");
    }
}

/// Asserts that the card receives no fewer packets than the guest counts. The card also counts those that came
/// before the interface was up, and those of multicast groups that QEMU filters for the guest; the guest
/// counts what it has sent only when QEMU returns the buffers.
fn assert_guest_counts_the_same(guest: &Guest) {
    let inside = || {
        guest.ip("-s link show eth1")[0]["stats64"]["rx"]["packets"]
            .as_u64()
            .unwrap()
    };
    let sample = || {
        let (before, row, after) = (inside(), row(guest), inside());
        (before, row["rxPackets"].as_u64().unwrap(), after)
    };
    let first = sample();
    guest.netns().exec("ping -c 9 -i 0.05 -W 5 172.16.0.3").ok();
    let second = sample();
    let (counted, shown) = (second.0 - first.2, second.1 - first.1);
    assert!(counted >= 9 && shown >= counted, "{first:?} {second:?}");
}

/// Sets the cable, and waits until the guest sees it.
fn set_cable(guest: &Guest, link: &str) {
    let up = link == "up";
    guest
        .monitor()
        .run("set_link", json!({"name": "pbd.eth1", "up": up}));
    let deadline = Instant::now() + Duration::from_secs(10);
    let has_carrier = || {
        let flags = guest.ip("link show eth1")[0]["flags"].clone();
        flags.as_array().unwrap().contains(&json!("LOWER_UP"))
    };
    while has_carrier() != up {
        assert!(
            Instant::now() < deadline,
            "the guest has not seen the cable"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The guest has the card eth1 with the TAP tap1, and nothing else uses it.
pub(crate) fn assert_traffic_of_eth1(guest: &Guest) {
    guest.netns().ip("addr add 172.16.0.1/16 dev tap1").ok();
    guest.netns().exec("ping -c 3 -i 0.2 -W 5 172.16.0.3").ok();
    assert_counters(guest);
    assert_guest_counts_the_same(guest);
    let first = row(guest);
    for (key, value) in [
        ("sandbox", json!(guest.id())),
        ("name", json!("eth1")),
        ("device", json!("tap1")),
        ("carrier", json!(true)),
        ("cable", json!("up")),
    ] {
        assert_eq!(first[key], value, "{first}");
    }
    let all = native(guest, "nic list --all").json();
    assert_eq!(all[0]["sandbox"], guest.id());
    for link in ["down", "up"] {
        set_cable(guest, link);
        assert_eq!(row(guest)["cable"], link);
    }
    let shown = native(guest, "nic show ID eth1").json();
    for key in ["IPAddresses", "pciAddr", "device", "rxBytes", "hwAddr"] {
        assert!(!shown[key].is_null(), "{key}: {shown}");
    }
    let table = native(guest, "nic show ID eth1 --format table").ok();
    assert!(table.contains("\nDEVICE       tap1\n"), "{table}");
    native(guest, "nic show ID eth9").assert_error(Kind::NotFound, "no card with the name 'eth9'");
    native(guest, "nic list").assert_error(Kind::Invalid, "<ID>");
    native(guest, "nic list ID --watch 1").assert_error(Kind::Invalid, "--all");
    native(guest, "nic list ID --all --watch 0").assert_error(Kind::Invalid, "1 to 3600 seconds");
    let blocks = on_a_terminal(guest, 80, "nic list --all");
    assert!(blocks.contains("\nDEVICE      tap1\n"), "{blocks}");
    let yaml = native(guest, "nic list ID --all --format yaml").ok();
    assert!(yaml.contains("\n  device: tap1\n"), "{yaml}");
    rates_follow_the_counters(guest);
    paused_guest_is_left_out(guest);
}

fn rates_follow_the_counters(guest: &Guest) {
    let words = ["nic", "list", guest.id(), "--all", "--watch", "1", "--json"];
    let mut watch = patchbay(guest.run_dir(), &words);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let first = next();
    assert_eq!(first[0]["rxByteRate"], Value::Null);
    guest
        .netns()
        .exec("ping -c 5 -i 0.05 -s 1000 -W 5 172.16.0.3")
        .ok();
    let second = next();
    let bytes = |list: &Value| list[0]["rxBytes"].as_u64().unwrap();
    let (difference, rate) = (
        bytes(&second) - bytes(&first),
        second[0]["rxByteRate"].as_u64(),
    );
    // The second list is at least a second later.
    assert!(difference >= 5000, "{second}");
    assert!((1..=difference).contains(&rate.unwrap()), "{second}");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

fn paused_guest_is_left_out(guest: &Guest) {
    guest.monitor().run("stop", json!({}));
    let listed = native(guest, "nic list --all");
    assert!(listed.err.contains("is left out"), "{listed}");
    let row = listed.json()[0].clone();
    assert_eq!(
        (&row["carrier"], &row["cable"]),
        (&json!(true), &Value::Null)
    );
    guest.resume();
}
