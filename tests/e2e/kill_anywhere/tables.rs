//! MTU, routes, IPVS and connections.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Command;

use patchbay_tests::{Card, Guest, Machine, patchbay, rng};
use serde_json::{Value, json};

use super::{card, kata_network, sweep};

/// Returns the MTU of the TAP and that of the card in the guest.
fn mtus(guest: &Guest) -> (u64, u64) {
    let outside = guest.netns().ip("-j link show tap-test").json();
    let inside = guest.ip("link show eth-test");
    let mtu = |links: &Value| links[0]["mtu"].as_u64().unwrap();
    (mtu(&outside), mtu(&inside))
}

/// At each point the TAP takes what the guest sends. Another command settles what was begun.
#[test]
fn update_mtu_killed_is_done_or_undone() {
    let rng = RefCell::new(rng());
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    let document = |mtu: u64| json!({"name": "eth-test", "mtu": mtu}).to_string();
    let other = Card::named("eth-other").mac("02:00:00:00:00:02");
    for (before, after) in [(1400, 9000), (9000, 1400)] {
        let prepare = || drop(guest.kata_network("update-iface", &document(before)).ok());
        let converge = || {
            let (outside, inside) = mtus(&guest);
            assert!(outside >= inside, "{outside} {inside}");
            assert!(inside == before || inside == after, "{inside}");
            let expected = if rng.borrow_mut().u64(..2) == 0 {
                guest.plug(&other).ok();
                guest.unplug(&other).assert_null();
                inside
            } else {
                guest.kata_network("update-iface", &document(after)).ok();
                after
            };
            assert_eq!(mtus(&guest), (expected, expected));
        };
        let command = kata_network(&guest, "update-iface");
        sweep(&rng, &[(&command, &document(after))], prepare, converge);
    }
}

/// Counts the routes that the kernel did not create.
fn routes(guest: &Guest) -> usize {
    let routes = guest.ip("route show");
    let ours = routes.as_array().unwrap().iter();
    ours.filter(|route| route["protocol"] != "kernel").count()
}

#[test]
fn routes_killed_are_all_or_none() {
    let rng = RefCell::new(rng());
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    let route = |number| json!({"dest": format!("20.{number}.0.0/16"), "device": "eth-test"});
    let batch = (0..200).map(route).collect::<Value>().to_string();
    let none = || drop(guest.kata_network("update-routes", "[]").ok());
    let all = || drop(guest.kata_network("update-routes", &batch).ok());
    let assert_all_or_nothing = || {
        guest.kata_network("list-routes", "").ok();
        let there = routes(&guest);
        assert!(there == 0 || there == 200, "{there}");
    };
    sweep(
        &rng,
        &[(&kata_network(&guest, "add-route"), &batch)],
        none,
        assert_all_or_nothing,
    );
    sweep(
        &rng,
        &[(&kata_network(&guest, "update-routes"), &batch)],
        none,
        assert_all_or_nothing,
    );
    sweep(
        &rng,
        &[(&kata_network(&guest, "del-route"), &batch)],
        all,
        assert_all_or_nothing,
    );
}

/// Returns the kernel's IPVS table without the service of the command that follows a kill.
fn table(guest: &Guest) -> String {
    let table = guest.exec("cat /proc/net/ip_vs").ok();
    let lines = table.lines().filter(|line| !line.starts_with("FWM"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns services without servers: a deleted server slows down later ones for two minutes.
fn rules(network: u8) -> String {
    let service = |number| {
        format!(
            "-A -t 10.{network}.{}.{}:80 -s rr\n",
            number / 200,
            number % 200
        )
    };
    (0..6000).map(service).collect()
}

fn restore(guest: &Guest, option: &'static [&'static str]) -> Command {
    let words = ["kata-ipvs", "ipvsadm", "--restore", "-", guest.id()];
    patchbay(guest.run_dir(), &[&words, option].concat())
}

#[test]
fn restore_killed_is_all_or_nothing() {
    let rng = RefCell::new(rng());
    let guest = Guest::start(Machine::Q35);
    let (old, new) = (rules(1), rules(2));
    let clear = || drop(guest.ipvsadm("-C").ok());
    guest.restore(&[], &new).ok();
    let whole = table(&guest);
    assert_eq!(guest.exec("ipvsadm -Sn").ok().lines().count(), 6000);
    guest.restore(&["--replace"], &old).ok();
    let before = table(&guest);
    clear();
    let nothing = table(&guest);
    let seen = RefCell::new(BTreeMap::new());
    let assert_all_or_nothing = |untouched: &str| {
        guest.ipvsadm("-A -f 4711 -s rr").ok();
        let there = table(&guest);
        assert!(there == whole || there == untouched, "{}", there.len());
        *seen.borrow_mut().entry(there == whole).or_insert(0) += 1;
        clear();
    };
    sweep(&rng, &[(&restore(&guest, &[]), &new)], clear, || {
        assert_all_or_nothing(&nothing);
    });
    let replace = restore(&guest, &["--replace"]);
    // A file sent completely before the kill can take effect after the next command.
    let old_first = || drop(guest.restore(&["--replace"], &old).ok());
    sweep(&rng, &[(&replace, &new)], old_first, || {
        assert_all_or_nothing(&before);
    });
    eprintln!("whole or not: {seen:?}");
}

#[test]
fn cleanup_killed_is_completed_by_the_next() {
    let rng = RefCell::new(rng());
    let guest = Guest::start(Machine::Q35);
    let insert = "for port in 1001 1002 1003 1004 1005; do conntrack -I -p tcp -s 10.0.0.1 \
                  -d 10.0.0.2 --sport $port --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED \
                  -t 900; done; conntrack -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 80 \
                  -u SEEN_REPLY,ASSURED -t 900; true";
    let insert = ["exec", guest.id(), "--", "sh", "-c", insert];
    let flows = || drop(guest.sandbox(&insert).ok());
    let words = "--orig-dst 10.0.0.2 --protonum 6";
    // Loads the modules of conntrack, which the guest can't load on demand.
    guest.cleanup(words).ok();
    let cleanup = ["kata-ipvs", "cleanup", "--parameters", words, guest.id()];
    let cleanup = patchbay(guest.run_dir(), &cleanup);
    sweep(&rng, &[(&cleanup, "")], flows, || {
        guest.cleanup(words).ok();
        let left = guest.exec("conntrack -L").ok();
        assert_eq!(
            left.lines().filter(|line| line.starts_with("tcp")).count(),
            0
        );
        assert_eq!(
            left.lines().filter(|line| line.starts_with("udp")).count(),
            1
        );
    });
}
