//! `make soak`: thousands of rounds in one guest, which must not leak.
//!
//! A card is plugged, carries traffic and is unplugged; rule files replace each other. Descriptors and
//! memory of every part are sampled meanwhile and must stay flat.

#![allow(clippy::unwrap_used)]

mod gauge;
mod report;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gauge::Gauge;
use patchbay_tests::{Card, Guest, Machine, patchbay, run, traffic};

/// Time limits of both parts; a slow machine reports fewer rounds.
const PLUGGING: Duration = Duration::from_secs(30 * 60);
const RESTORING: Duration = Duration::from_secs(15 * 60);

const SERVICES: usize = 2_000;
const SERVERS: usize = 3;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, run_dir, id] = &words[..]
        && word == gauge::SHIM
    {
        return gauge::shim(run_dir.as_ref(), id);
    }
    let guest = Guest::start(Machine::Q35);
    let mut report = report::Report::default();

    // The first rounds load modules and fill caches, so they are not measured.
    plug_round(&guest, 0);
    restore_round(&guest, 0);
    clear(&guest);
    for work in [
        Work {
            name: "plug",
            rounds: number("SOAK_ROUNDS", 2_000),
            limit: PLUGGING,
            round: plug_round,
        },
        Work {
            name: "restore",
            rounds: number("SOAK_RESTORES", 200),
            limit: RESTORING,
            round: restore_round,
        },
    ] {
        report.add(work.run(&guest));
    }
    clear(&guest);

    let text = report.text();
    println!("{text}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/soak");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("report.md"), text).unwrap();
    report.verdict()
}

/// Plugs a card, echoes 64 KiB through it and unplugs it.
fn plug_round(guest: &Guest, round: usize) {
    let tap = "tap-soak";
    let (ours, theirs) = ("172.20.0.1", "172.20.0.2");
    let [.., high, low] = round.to_be_bytes();
    let card = Card::named("eth-soak")
        .mac(&format!("02:42:20:00:{high:02x}:{low:02x}"))
        .address(&format!("{theirs}/24"))
        .queues(u32::try_from(round % 3 + 1).unwrap());
    guest.plug(&card).ok();
    guest
        .netns()
        .ip(&format!("addr add {ours}/24 dev {tap}"))
        .ok();
    let echo: SocketAddr = format!("{theirs}:7").parse().unwrap();
    let (sent, received) = traffic::echo(guest.netns(), echo, 64 << 10);
    assert_eq!(sent, received, "round {round}");
    guest.unplug(&card).ok();
    let left = guest.netns().links();
    assert!(left.is_empty(), "round {round}: {left:?}");
}

/// Replaces the rules by a file that differs in 1 % of its lines from the previous one.
fn restore_round(guest: &Guest, round: usize) {
    let mut file = String::new();
    for service in 0..SERVICES {
        let place = format!("10.{}.{}.1:80", service / 250, service % 250);
        let weight = if service % 100 == round % 100 { 2 } else { 1 };
        writeln!(file, "-A -t {place} -s rr").unwrap();
        for server in 0..SERVERS {
            let port = 8080 + server;
            writeln!(
                file,
                "-a -t {place} -r 10.200.0.{}:{port} -m -w {weight}",
                server + 1
            )
            .unwrap();
        }
    }
    let words = [
        "kata-ipvs",
        "ipvsadm",
        "--restore",
        "-",
        "--replace",
        guest.id(),
    ];
    run(&mut patchbay(guest.run_dir(), &words), &file).ok();
    let there = guest.exec("wc -l /proc/net/ip_vs").ok();
    let expected = SERVICES * (SERVERS + 1) + 3;
    assert!(
        there.starts_with(&expected.to_string()),
        "round {round}: {there}"
    );
}

fn clear(guest: &Guest) {
    let words = ["kata-ipvs", "ipvsadm", "--parameters", "-C", guest.id()];
    guest.patchbay(&words).ok();
}

/// Rounds of one kind.
struct Work {
    name: &'static str,
    rounds: usize,
    limit: Duration,
    round: fn(&Guest, usize),
}

impl Work {
    /// Runs all rounds, or as many as the time limit allows, with ten samples.
    fn run(self, guest: &Guest) -> report::Part {
        let Self { name, rounds, .. } = self;
        let begun = Instant::now();
        let mut samples = vec![(0, Gauge::read(guest))];
        let mut done = 0;
        while done < rounds && begun.elapsed() < self.limit {
            done += 1;
            (self.round)(guest, done);
            if done % (rounds / 10).max(1) == 0 || done == rounds {
                samples.push((done, Gauge::read(guest)));
                let seconds = begun.elapsed().as_secs();
                eprintln!("soak: {name} {done} of {rounds}, {seconds} s");
            }
        }
        report::Part {
            name,
            planned: rounds,
            took: begun.elapsed(),
            samples,
        }
    }
}
