//! Cards: one plugged, all listed, thirty at once.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::{Card, Machine};
use serde_json::json;

use crate::bed::{Bed, PORT};
use crate::plan::Plan;
use crate::row::{Bound, Comparison, Row};
use crate::stats::Samples;

const MANY: usize = 30;

/// Measures the rows.
pub(crate) fn measure(plan: Plan, folder: &Path) -> Vec<Row> {
    let bed = Bed::start(Machine::Q35, &[]);
    bed.0.netns().ip("tuntap add bare mode tap").ok();
    bed.0.netns().ip("link set bare up").ok();
    let file = document(folder, 1);
    let (mut plug, mut bare, mut list, mut echo) = (vec![], vec![], vec![], vec![]);
    for _ in 0..plan.repeats {
        plug.push(add(&bed, &file));
        for _ in 0..2 {
            list.push(bed.ours(&["kata-network", "list-ifaces", bed.0.id()], None));
            echo.push(bed.echo());
        }
        bed.ours(&["kata-network", "del-iface", bed.0.id(), "-"], Some(&file));
        bare.push(plug_bare(&bed));
    }
    drop(bed);
    eprintln!("bench: cards");
    let compared = |with, took, bound| {
        Some(Comparison {
            with,
            took: Samples::new(took),
            bound,
        })
    };
    let plug = Row {
        work: "add-iface, command to usable card",
        ours: Samples::new(plug),
        peer: None,
        floor: compared("bare plug", bare, Bound::Within(1.3)),
    };
    let list = Row {
        work: "list-ifaces, whole process",
        ours: Samples::new(list),
        peer: None,
        floor: compared("vsock echo by a new process", echo, Bound::Within(3.0)),
    };
    vec![plug, list, thirty(plan, folder)]
}

/// Writes the document of a card; returns its path.
pub(super) fn document(folder: &Path, number: usize) -> PathBuf {
    let path = folder.join(format!("card-{number}.json"));
    let card = Card::numbered(number).address(&format!("10.9.{number}.1/24"));
    std::fs::write(&path, card.json()).unwrap();
    path
}

pub(super) fn add(bed: &Bed, card: &Path) -> Duration {
    bed.ours(&["kata-network", "add-iface", bed.0.id(), "-"], Some(card))
}

/// Plugs a card by QMP alone: QEMU opens the TAP, and the time ends with the guest kernel's event of the
/// new link, which stays unconfigured.
fn plug_bare(bed: &Bed) -> Duration {
    let mut link = UnixStream::connect(bed.0.file("vsock.sock")).unwrap();
    // In one write, or the daemon closes the connection.
    let connect = format!("CONNECT {PORT}\n");
    link.write_all(connect.as_bytes()).unwrap();
    let mut byte = [0];
    while byte != *b"\n" {
        link.read_exact(&mut byte).unwrap();
    }
    link.write_all(b"l\0\0\0\0").unwrap();
    link.read_exact(&mut byte).unwrap();
    let mut monitor = bed.0.monitor();
    let netdev = json!({"type": "tap", "id": "bare", "ifname": "bare", "script": "no",
        "downscript": "no"});
    let device = json!({"driver": "virtio-net-pci", "id": "bare", "netdev": "bare", "bus": "rp1",
        "mac": "02:42:20:6f:a4:01", "romfile": ""});
    let start = Instant::now();
    monitor.run("netdev_add", netdev);
    monitor.run("device_add", device);
    link.read_exact(&mut byte).unwrap();
    let took = start.elapsed();
    // The guest releases a card only after its driver is bound.
    let deadline = Instant::now() + Duration::from_secs(20);
    monitor.execute("device_del", json!({"id": "bare"}));
    while monitor.devices().iter().any(|id| id == "bare") {
        assert!(Instant::now() < deadline, "the bare card stays");
        thread::sleep(Duration::from_millis(20));
    }
    monitor.run("netdev_del", json!({"id": "bare"}));
    took
}

/// Plugs thirty cards into a bridge, which has enough slots.
fn thirty(plan: Plan, folder: &Path) -> Row {
    let files: Vec<_> = (1..=MANY).map(|number| document(folder, number)).collect();
    let (mut at_once, mut in_turn) = (vec![], vec![]);
    for round in 0..plan.card_rounds {
        for turn in 0..2 {
            let bed = Bed::start(Machine::Pc, &[]);
            let start = Instant::now();
            if (round + turn).is_multiple_of(2) {
                thread::scope(|scope| {
                    for file in &files {
                        scope.spawn(|| add(&bed, file));
                    }
                });
                at_once.push(start.elapsed());
            } else {
                for file in &files {
                    add(&bed, file);
                }
                in_turn.push(start.elapsed());
            }
            let listed = bed.0.kata_network("list-ifaces", "").json();
            assert_eq!(listed.as_array().unwrap().len(), MANY);
        }
        eprintln!("bench: thirty cards");
    }
    Row {
        work: "30 cards by 30 commands at once",
        ours: Samples::new(at_once),
        peer: Some(Comparison {
            with: "one after another",
            took: Samples::new(in_turn),
            bound: Bound::Within(1.0),
        }),
        floor: None,
    }
}
