//! Cards: one plugged, all listed, thirty at once.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::Machine;
use serde_json::json;

use crate::bed::{Bed, PORT};
use crate::plan::Plan;
use crate::row::{Bound, Comparison, Row};
use crate::stats::Samples;

const MANY: usize = 30;

/// The rows.
pub(crate) fn measure(plan: Plan) -> Vec<Row> {
    let bed = Bed::start(Machine::Q35, &[]);
    bed.0.netns().ip("tuntap add bare mode tap").ok();
    bed.0.netns().ip("link set bare up").ok();
    let (mut plug, mut bare, mut list, mut echo) = (vec![], vec![], vec![], vec![]);
    for _ in 0..plan.repeats {
        plug.push(bed.ours(&words(&bed, "add", 1), None));
        for _ in 0..2 {
            list.push(bed.ours(&["kata-network", "list-ifaces", bed.0.id()], None));
            echo.push(bed.echo());
        }
        bed.ours(&["nic", "del", bed.0.id(), "--name", "eth1"], None);
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
    vec![plug, list, thirty(plan)]
}

/// Words of `patchbay` that plug a card of this number.
fn words(bed: &Bed, verb: &str, number: usize) -> Vec<String> {
    let ip = format!("10.9.{number}.1/24");
    let (tap, name) = (format!("tap{number}"), format!("eth{number}"));
    let mac = format!("02:42:20:6f:a3:{number:02x}");
    let words = ["nic", verb, bed.0.id(), "--tap", &tap, "--name", &name];
    let more = ["--mac", &mac, "--ip", &ip];
    words.into_iter().chain(more).map(str::to_owned).collect()
}

/// QEMU opens the TAP by itself; it ends when the guest's kernel tells of a link, which nobody
/// configures.
fn plug_bare(bed: &Bed) -> Duration {
    let mut link = UnixStream::connect(bed.0.file("vsock.sock")).unwrap();
    // In one piece, or the daemon closes the connection.
    let connect = format!("CONNECT {PORT}\n");
    link.write_all(connect.as_bytes()).unwrap();
    let mut answer = [0; 32];
    link.read(&mut answer).unwrap();
    link.write_all(b"l\0\0\0\0").unwrap();
    let mut byte = [0];
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
    // The guest lets go of a card only when its driver has it.
    let deadline = Instant::now() + Duration::from_secs(20);
    monitor.answer("device_del", json!({"id": "bare"}));
    while monitor.devices().iter().any(|id| id == "bare") {
        assert!(Instant::now() < deadline, "the bare card stays");
        thread::sleep(Duration::from_millis(20));
    }
    monitor.run("netdev_del", json!({"id": "bare"}));
    took
}

/// On a bridge, which has room for them.
fn thirty(plan: Plan) -> Row {
    let (mut at_once, mut in_turn) = (vec![], vec![]);
    for _ in 0..plan.large_rounds {
        let bed = Bed::start(Machine::Pc, &[]);
        let start = Instant::now();
        for number in 1..=MANY {
            bed.ours(&words(&bed, "add", number), None);
        }
        in_turn.push(start.elapsed());
        drop(bed);
        let bed = Bed::start(Machine::Pc, &[]);
        let start = Instant::now();
        thread::scope(|scope| {
            for number in 1..=MANY {
                let bed = &bed;
                scope.spawn(move || bed.ours(&words(bed, "add", number), None));
            }
        });
        at_once.push(start.elapsed());
        let listed = bed.0.kata_network("list-ifaces", "").json();
        assert_eq!(listed.as_array().unwrap().len(), MANY);
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
