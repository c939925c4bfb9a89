//! A hashed service, tracked connections and routes, by patchbay, the peer and the floor in each guest;
//! tracked connections also on Linux 6.12, which deletes them by a filter.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchbay_tests::{Card, Machine, linux_6_12};
use serde_json::json;

use crate::bed::Bed;
use crate::plan::Plan;
use crate::row::{Bound, Comparison, Row};
use crate::rules::{RuleFile, hashed};
use crate::stats::Samples;

const SERVERS: usize = 500;
const FLOWS: usize = 10_000;
const ROUTES: u32 = 10_000;

/// Packed: destination and prefix, gateway, no source, device, no scope, no metric.
const BYTES_OF_ROUTE: usize = 6 + 5 + 1 + 5 + 1 + 1;
const GATEWAY: &str = "172.31.1.1";

/// Makes room for twice the number of flows in a small guest.
const ROOM: &str = "echo 65536 >/sys/module/nf_conntrack/parameters/hashsize; \
    echo 131072 >/proc/sys/net/netfilter/nf_conntrack_max";

struct Files {
    hashed: [RuleFile; 2],
    routes: PathBuf,
}

#[derive(Default)]
struct Measured {
    hashed: [Vec<Duration>; 2],
    flows: [Vec<Duration>; 2],
    flows_6_12: [Vec<Duration>; 2],
    routes: [Vec<Duration>; 3],
}

/// The rows.
pub(crate) fn measure(plan: Plan, folder: &Path) -> Vec<Row> {
    let hashed = [
        RuleFile::new(folder, "hashed-0", hashed("10.255.0.1:80", 20, SERVERS)),
        RuleFile::new(folder, "hashed-1", hashed("10.255.0.2:80", 21, SERVERS)),
    ];
    let routes = folder.join("routes.json");
    let listed: Vec<_> = destinations()
        .map(|dest| json!({"dest": dest, "gateway": GATEWAY, "device": "eth0"}))
        .collect();
    std::fs::write(&routes, json!(listed).to_string()).unwrap();
    let files = Files { hashed, routes };
    let mut measured = Measured::default();
    for round in 0..plan.rounds {
        let bed = Bed::start(Machine::Q35, &[]);
        hashed_turns(&bed, round, &files, &mut measured);
        flow_turns(&bed, round, &mut measured.flows);
        route_turns(&bed, round, &files, &mut measured);
        drop(bed);
        let newer = linux_6_12();
        let bed = Bed::start(Machine::Q35, &newer.each_ref().map(String::as_str));
        flow_turns(&bed, round, &mut measured.flows_6_12);
        eprintln!("bench: tables, round {} of {}", round + 1, plan.rounds);
    }
    rows(measured)
}

fn destinations() -> impl Iterator<Item = String> {
    let first = u32::from(Ipv4Addr::new(20, 0, 0, 0));
    (first..first + ROUTES).map(|address| format!("{}/32", Ipv4Addr::from(address)))
}

/// Nothing is deleted in between, so the trash stays empty; the two have different servers.
fn hashed_turns(bed: &Bed, round: usize, files: &Files, measured: &mut Measured) {
    for turn in 0..2 {
        let file = &files.hashed[turn];
        if (round + turn).is_multiple_of(2) {
            measured.hashed[0].push(bed.restore(&["--merge"], &file.path));
        } else {
            bed.0.write_file("/tmp/hashed", &file.text);
            measured.hashed[1].push(bed.peer("ipvsadm -R </tmp/hashed"));
        }
    }
}

fn flow_turns(bed: &Bed, round: usize, measured: &mut [Vec<Duration>; 2]) {
    bed.0.shell(ROOM).ok();
    bed.floor(&format!("conntrack-fill {FLOWS} 10.250.0.1"));
    for turn in 0..2 {
        bed.floor(&format!("conntrack-fill {FLOWS} 10.250.0.2"));
        if (round + turn).is_multiple_of(2) {
            let words = [
                "kata-ipvs",
                "cleanup",
                "--parameters",
                "--orig-dst 10.250.0.2",
            ];
            measured[0].push(bed.ours(&[&words[..], &[bed.0.id()]].concat(), None));
        } else {
            // Discards its report of each flow.
            let delete = "sh -c 'conntrack -D --orig-dst 10.250.0.2 2>/dev/null'";
            measured[1].push(bed.peer(delete));
        }
        let left = bed
            .0
            .exec("cat /proc/sys/net/netfilter/nf_conntrack_count")
            .ok();
        let left: usize = left.trim().parse().unwrap();
        assert!(
            (FLOWS..FLOWS + 100).contains(&left),
            "{left} flows are left"
        );
    }
}

fn route_turns(bed: &Bed, round: usize, files: &Files, measured: &mut Measured) {
    let card = Card::named("eth0").address("172.31.1.3/24");
    bed.0.plug(&card).ok();
    let mut batch = String::new();
    for dest in destinations() {
        writeln!(batch, "route add {dest} via {GATEWAY} dev eth0").unwrap();
    }
    bed.0.write_file("/tmp/routes", &batch);
    for turn in 0..3 {
        let kind = (round + turn) % 3;
        measured.routes[kind].push(match kind {
            0 => {
                let file = files.routes.to_str().unwrap();
                bed.ours(&["kata-network", "add-route", bed.0.id(), file], None)
            }
            1 => bed.peer("ip -batch /tmp/routes"),
            _ => {
                let fill = bed.floor(&format!("routes-fill {ROUTES} eth0 {GATEWAY}"));
                fill + bed.moved("send", destinations().count() * BYTES_OF_ROUTE)
            }
        });
        let made = bed.0.shell("ip route show root 20.0.0.0/8 | wc -l").ok();
        assert_eq!(made.trim(), ROUTES.to_string());
        bed.0.exec("ip route flush root 20.0.0.0/8").ok();
    }
}

fn rows(measured: Measured) -> Vec<Row> {
    let compared = |with, took, bound| {
        Some(Comparison {
            with,
            took: Samples::new(took),
            bound,
        })
    };
    let [ours, peer] = measured.hashed;
    let hashed = Row {
        work: "add 500 destinations to one mh service",
        ours: Samples::new(ours),
        peer: compared("ipvsadm -R", peer, Bound::Faster(6.0)),
        floor: None,
    };
    let flows = |work, [ours, peer]: [Vec<Duration>; 2], least| Row {
        work,
        ours: Samples::new(ours),
        peer: compared("conntrack -D", peer, Bound::Faster(least)),
        floor: None,
    };
    let older = "delete 10,000 of 20,000 conntrack flows (6.1)";
    let older = flows(older, measured.flows, 3.0);
    let newer = "delete 10,000 of 20,000 conntrack flows (6.12)";
    let newer = flows(newer, measured.flows_6_12, 20.0);
    let [ours, peer, floor] = measured.routes;
    let routes = Row {
        work: "add 10,000 routes",
        ours: Samples::new(ours),
        peer: compared("ip -batch", peer, Bound::Faster(3.0)),
        floor: compared("kernel + transport", floor, Bound::Within(1.6)),
    };
    vec![hashed, older, newer, routes]
}
