//! Restoring, listing, saving and changing 20,000 IPVS rules, and adding one more.

use std::path::Path;
use std::time::Duration;

use patchbay_tests::Machine;

use crate::bed::Bed;
use crate::plan::Plan;
use crate::row::{Bound, Comparison, Row};
use crate::rules::{RuleFile, one_percent_changed, rules, rules6};
use crate::stats::Samples;

/// Repetitions of small work in one guest.
const REPEATS: usize = 5;

const IN_GUEST: &str = "/tmp/rules";
const OTHER_IN_GUEST: &str = "/tmp/other";

/// Times of patchbay, the peer and the floor for one kind of work.
#[derive(Default)]
struct Times {
    ours: Vec<Duration>,
    peer: Vec<Duration>,
    floor: Vec<Duration>,
}

#[derive(Default)]
struct Measured {
    restore: Times,
    list: Times,
    save: Times,
    list6: Times,
    save6: Times,
    /// The peer is patchbay with an empty table, the floor an echo.
    one: Times,
    replace: Times,
}

struct Files {
    rules: RuleFile,
    rules6: RuleFile,
    changed: RuleFile,
}

/// Measures the rows; also returns the times of the first row, from which growth is measured.
pub(crate) fn measure(plan: Plan, folder: &Path) -> (Vec<Row>, [Samples; 2]) {
    let text = rules(20_000, 16);
    let changed = one_percent_changed(&text);
    let files = Files {
        rules: RuleFile::new(folder, "rules", text),
        rules6: RuleFile::new(folder, "rules6", rules6(20_000)),
        changed: RuleFile::new(folder, "changed", changed),
    };
    let mut measured = Measured::default();
    for round in 0..plan.rounds {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => our_turn(&files, &mut measured),
                1 => {
                    peers_turn(&files, &mut measured);
                    ipv6_turn(&files, &mut measured);
                }
                _ => floors_turn(&files, &mut measured),
            }
        }
        eprintln!("bench: rules, round {} of {}", round + 1, plan.rounds);
    }
    let trash = full_trash(folder);
    let from = [
        Samples::new(measured.restore.ours.clone()),
        Samples::new(measured.restore.floor.clone()),
    ];
    (rows(measured, trash), from)
}

fn rows(measured: Measured, trash: Row) -> Vec<Row> {
    let Measured {
        restore,
        list,
        save,
        list6,
        save6,
        one,
        replace,
    } = measured;
    let replace = Row {
        work: "replace 20,000 rules, 1 % changed",
        ours: Samples::new(replace.ours),
        peer: Some(Comparison {
            with: "ipvsadm -C; ipvsadm -R",
            took: Samples::new(replace.peer),
            bound: Bound::Faster(20.0),
        }),
        floor: None,
    };
    let one = Row {
        work: "add one rule while 20,000 exist",
        ours: Samples::new(one.ours),
        peer: Some(Comparison {
            with: "while none exist",
            took: Samples::new(one.peer),
            bound: Bound::Within(1.3),
        }),
        floor: Some(Comparison {
            with: "vsock echo by a new process",
            took: Samples::new(one.floor),
            bound: Bound::Within(2.0),
        }),
    };
    vec![
        bulk(
            "restore 20,000 rules, fresh guest",
            "ipvsadm -R",
            1.5,
            restore,
        ),
        trash,
        bulk("list 20,000 rules", "ipvsadm -Ln", 1.6, list),
        bulk("save 20,000 rules", "ipvsadm -Sn", 1.6, save),
        ipv6("list 20,000 IPv6 rules", "ipvsadm -Ln", list6),
        ipv6("save 20,000 IPv6 rules", "ipvsadm -Sn", save6),
        replace,
        one,
    ]
}

fn bulk(work: &'static str, with: &'static str, most: f64, times: Times) -> Row {
    Row {
        work,
        ours: Samples::new(times.ours),
        peer: Some(Comparison {
            with,
            took: Samples::new(times.peer),
            bound: Bound::Faster(15.0),
        }),
        floor: Some(Comparison {
            with: "kernel + transport",
            took: Samples::new(times.floor),
            bound: Bound::Within(most),
        }),
    }
}

fn ipv6(work: &'static str, with: &'static str, times: Times) -> Row {
    Row {
        work,
        ours: Samples::new(times.ours),
        peer: Some(Comparison {
            with,
            took: Samples::new(times.peer),
            bound: Bound::Faster(10.0),
        }),
        floor: None,
    }
}

/// Starts a new guest, in which no table was flushed before, and writes the file there.
fn bed(rules: &RuleFile) -> Bed {
    let bed = Bed::start(Machine::Q35, &[]);
    bed.0.write_file(IN_GUEST, &rules.text);
    bed
}

fn add_one(bed: &Bed) -> Duration {
    let took = bed.ipvsadm("-A -t 10.200.0.1:80 -s rr");
    bed.ipvsadm("-D -t 10.200.0.1:80");
    took
}

fn our_turn(files: &Files, measured: &mut Measured) {
    let bed = bed(&files.rules);
    let Measured {
        restore,
        list,
        save,
        one,
        replace,
        ..
    } = measured;
    one.peer.extend((0..REPEATS).map(|_| add_one(&bed)));
    restore.ours.push(bed.restore(&[], &files.rules.path));
    // Alternates, so that other load of the host affects both.
    for _ in 0..2 {
        list.ours.push(bed.ipvsadm("-L -n"));
        list.peer.push(bed.peer("ipvsadm -Ln"));
        save.ours.push(bed.ipvsadm("-S -n"));
        save.peer.push(bed.peer("ipvsadm -Sn"));
        let read = bed.floor("ipvs-read") + bed.moved("receive", files.rules.packed[1]);
        list.floor.push(read);
        save.floor.push(read);
    }
    for _ in 0..REPEATS {
        one.ours.push(add_one(&bed));
        one.floor.push(bed.echo());
    }
    replace
        .ours
        .push(bed.restore(&["--replace"], &files.changed.path));
    // Restores the first file, which changes as many rules.
    let again = format!("sh -c 'ipvsadm -C; ipvsadm -R <{IN_GUEST}'");
    replace.peer.push(bed.peer(&again));
}

fn ipv6_turn(files: &Files, measured: &mut Measured) {
    let bed = Bed::start(Machine::Q35, &[]);
    bed.restore(&[], &files.rules6.path);
    let Measured { list6, save6, .. } = measured;
    for _ in 0..2 {
        list6.ours.push(bed.ipvsadm("-L -n"));
        list6.peer.push(bed.peer("ipvsadm -Ln"));
        save6.ours.push(bed.ipvsadm("-S -n"));
        save6.peer.push(bed.peer("ipvsadm -Sn"));
    }
}

fn peers_turn(files: &Files, measured: &mut Measured) {
    let bed = bed(&files.rules);
    let took = bed.peer(&format!("ipvsadm -R <{IN_GUEST}"));
    measured.restore.peer.push(took);
}

fn floors_turn(files: &Files, measured: &mut Measured) {
    let bed = bed(&files.rules);
    let fill = bed.floor(&format!("ipvs-fill {IN_GUEST}"));
    let send = bed.moved("send", files.rules.packed[0]);
    measured.restore.floor.push(fill + send);
}

/// Measures once, with half the rules, since it is slow for both: the servers differ from those deleted
/// just before.
fn full_trash(folder: &Path) -> Row {
    let before = RuleFile::new(folder, "before", rules(10_000, 16));
    let other = RuleFile::new(folder, "other", rules(10_000, 17));
    let ours = {
        let bed = bed(&before);
        bed.restore(&[], &before.path);
        bed.ipvsadm("-C");
        bed.restore(&[], &other.path)
    };
    let bed = bed(&before);
    bed.0.write_file(OTHER_IN_GUEST, &other.text);
    bed.peer(&format!("ipvsadm -R <{IN_GUEST}"));
    bed.peer("ipvsadm -C");
    let peer = bed.peer(&format!("ipvsadm -R <{OTHER_IN_GUEST}"));
    eprintln!("bench: full trash");
    Row {
        work: "restore 10,000 other rules, trash full after -C",
        ours: Samples::new([ours]),
        peer: Some(Comparison {
            with: "ipvsadm -R",
            took: Samples::new([peer]),
            bound: Bound::Open,
        }),
        floor: None,
    }
}
