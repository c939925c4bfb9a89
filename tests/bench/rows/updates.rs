//! Changing the MTU or one address of a card that has many routes or many addresses, by patchbay and by
//! `ip -batch` in the guest.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use patchbay_tests::{Card, Machine};
use serde_json::json;

use crate::bed::Bed;
use crate::plan::Plan;
use crate::row::{Bound, Comparison, Row};
use crate::stats::Samples;

const ROUTES: u32 = 20_000;
const ADDRESSES: u32 = 3_000;
const MTUS: [u32; 2] = [1400, 1500];

/// Times of changes of one card.
#[derive(Default)]
struct Measured {
    /// By patchbay and by its peer.
    mtu: [Vec<Duration>; 2],
    /// The same, and the floor.
    address: [Vec<Duration>; 3],
}

/// Measures the rows.
pub(crate) fn measure(plan: Plan, folder: &Path) -> Vec<Row> {
    let (mut routed, mut addressed) = (Measured::default(), Measured::default());
    let bed = Bed::start(Machine::Q35, &[]);
    bed.0.plug(&card(&two_addresses(0))).ok();
    let mut batch = String::new();
    for dest in numbered(Ipv4Addr::new(20, 0, 0, 0), ROUTES) {
        writeln!(batch, "route add {dest} via 172.31.1.1 dev eth0").unwrap();
    }
    bed.0.write_file("/tmp/routes", &batch);
    bed.0.exec("ip -batch /tmp/routes").ok();
    turns(&bed, plan, folder, &mut routed);
    let kept = bed.0.shell("ip route show root 20.0.0.0/8 | wc -l").ok();
    assert_eq!(kept.trim(), ROUTES.to_string());
    drop(bed);
    eprintln!("bench: updates, routes");
    let bed = Bed::start(Machine::Q35, &[]);
    bed.0.plug(&card(&two_addresses(0))).ok();
    // A card gets at most 128 from patchbay.
    let mut batch = String::new();
    for address in numbered(Ipv4Addr::new(172, 16, 0, 0), ADDRESSES) {
        writeln!(batch, "addr add {address} dev eth0").unwrap();
    }
    bed.0.write_file("/tmp/addresses", &batch);
    bed.0.exec("ip -batch /tmp/addresses").ok();
    turns(&bed, plan, folder, &mut addressed);
    eprintln!("bench: updates, addresses");
    let [routed, addressed] = [routed, addressed].map(|Measured { mtu, address }| {
        let [ours, peer, floor] = address;
        (mtu, [ours, peer], floor)
    });
    vec![
        row("mtu of a card with 20,000 routes", routed.0, None),
        row(
            "one address of a card with 20,000 routes",
            routed.1,
            Some(routed.2),
        ),
        row("mtu of a card with 3,000 addresses", addressed.0, None),
        row(
            "one address of a card with 3,000 others",
            addressed.1,
            Some(addressed.2),
        ),
    ]
}

fn row(work: &'static str, [ours, peer]: [Vec<Duration>; 2], floor: Option<Vec<Duration>>) -> Row {
    let compared = |with, took, bound| Comparison {
        with,
        took: Samples::new(took),
        bound,
    };
    let peer = compared(
        "ip -batch, and a vsock echo by a new process",
        peer,
        Bound::Within(2.0),
    );
    let dumps = "the kernel's dumps that undo and check need + transport";
    Row {
        work,
        ours: Samples::new(ours),
        peer: Some(peer),
        floor: floor.map(|took| compared(dumps, took, Bound::Open)),
    }
}

/// Returns networks of one address each.
fn numbered(first: Ipv4Addr, count: u32) -> impl Iterator<Item = String> {
    let first = u32::from(first);
    (first..first + count).map(|address| format!("{}/32", Ipv4Addr::from(address)))
}

/// The addresses of a card, of which the last one changes with the turn.
fn two_addresses(turn: usize) -> Vec<String> {
    vec!["172.31.1.3/24".to_owned(), last(turn)]
}

fn last(turn: usize) -> String {
    format!("10.250.0.{}/32", 1 + turn % 2)
}

fn other(turn: usize) -> String {
    format!("10.251.0.{}/32", 1 + turn % 2)
}

fn card(addresses: &[String]) -> Card {
    let card = Card::named("eth0");
    addresses
        .iter()
        .fold(card, |card, address| card.address(address))
}

/// Changes the MTU and the last address again and again, first by patchbay, then by its peer.
fn turns(bed: &Bed, plan: Plan, folder: &Path, Measured { mtu, address }: &mut Measured) {
    let update = |document: &serde_json::Value| {
        let path = folder.join("update.json");
        std::fs::write(&path, document.to_string()).unwrap();
        let words = ["kata-network", "update-iface", bed.0.id(), "-"];
        bed.ours(&words, Some(&path))
    };
    let ip = |lines: &str| {
        bed.0.write_file("/tmp/batch", lines);
        bed.peer("ip -batch /tmp/batch") + bed.echo()
    };
    bed.0
        .exec(&format!("ip addr add {} dev eth0", other(0)))
        .ok();
    for turn in 0..plan.repeats {
        let [new, old] = [MTUS[turn % 2], MTUS[(turn + 1) % 2]];
        mtu[0].push(update(&json!({"name": "eth0", "mtu": new})));
        mtu[1].push(ip(&format!("link set eth0 mtu {old}")));
        bed.0.exec(&format!("ip link set eth0 mtu {new}")).ok();
        let listed: Vec<_> = two_addresses(turn + 1)
            .iter()
            .map(|text| entry(text))
            .collect();
        address[0].push(update(&json!({"name": "eth0", "IPAddresses": listed})));
        // Not patchbay's, which leaves it alone.
        let [new, old] = [other(turn + 1), other(turn)];
        let lines = format!("addr add {new} dev eth0\naddr del {old} dev eth0\n");
        address[1].push(ip(&lines));
        // The addresses before and after the change, and the routes that an undo would restore.
        let tables = ["addresses", "routes", "addresses"];
        let dumps = tables.map(|table| bed.floor(&format!("dump {table}")));
        address[2].push(dumps.into_iter().sum::<Duration>() + bed.echo());
    }
}

fn entry(address: &str) -> serde_json::Value {
    let (address, mask) = address.split_once('/').unwrap();
    json!({"address": address, "mask": mask})
}
