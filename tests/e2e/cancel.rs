//! SIGINT, SIGTERM and SIGHUP while the agent carries out a change: it stops in the middle, and the guest
//! is as before.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patchbay_tests::tracer::{Point, Stop, signal_at, steps};
use patchbay_tests::{Card, Done, Guest, Machine, patchbay, run};
use serde_json::json;

const ROUTES: u32 = 20_000;

fn card() -> Card {
    Card::named("eth-test").address("172.16.0.3/16")
}

/// Asserts the exit code and the last line of a command whose change is undone.
fn assert_undone(done: &Done, signal: Signal) {
    assert_eq!(done.status, 128 + signal as i32, "{done}");
    let line = done.err.lines().last().unwrap_or_default();
    let start = format!("patchbay: interrupted by {signal}: ");
    assert!(line.starts_with(&start), "{done}");
    assert!(line.ends_with("the change is undone"), "{done}");
}

/// Runs a command with a file as its input, and sends it a signal when the script succeeds in the guest.
fn interrupt_when(
    guest: &Guest,
    (words, input): (&[&str], &Path),
    has_begun: &str,
    signal: Signal,
) -> Done {
    let child = patchbay(guest.run_dir(), words)
        .stdin(std::fs::File::open(input).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let wait = format!("for i in $(seq 2000); do {{ {has_begun}; }} && exit 0; done; exit 1");
    let begun = guest.shell(&wait);
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    let done = Done {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert_eq!(begun.status, 0, "{begun}; {done}");
    done
}

/// Attempts to send a signal in the middle of a change: on a busy host the guest's look can come after its end.
const ATTEMPTS: u32 = 5;

fn is_late(done: &Done) -> bool {
    done.err.contains("came too late: the command is complete")
}

fn route(net: u8, number: u32) -> serde_json::Value {
    let dest = format!("{net}.{}.{}.0/24", number / 250, number % 250);
    json!({"dest": dest, "gateway": "172.16.0.1", "device": "eth-test"})
}

fn routes(net: u8) -> String {
    let routes: Vec<_> = (0..ROUTES).map(|number| route(net, number)).collect();
    json!(routes).to_string()
}

#[test]
fn change_of_routes_interrupted_midway_is_undone() {
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    guest.kata_network("update-routes", &routes(20)).ok();
    let shown = || guest.exec("ip -j route").ok();
    let before = shown();
    assert!(before.contains("20.79.249.0/24"));
    let file = guest.file("routes.json");
    // The kernel's list of a table is sorted: removals begin with the first route.
    let is_removed = "! ip route get fibmatch 20.0.0.1 | grep -q ^20.0.0.0/24";
    let is_added = "ip route get fibmatch 21.0.0.1 | grep -q ^21.0.0.0/24";
    for (command, net, has_begun, signal) in [
        ("update-routes", 21, is_removed, Signal::SIGINT),
        ("update-routes", 21, is_added, Signal::SIGHUP),
        ("add-route", 21, is_added, Signal::SIGTERM),
        ("del-route", 20, is_removed, Signal::SIGINT),
    ] {
        std::fs::write(&file, routes(net)).unwrap();
        let words = ["kata-network", command, guest.id(), "-"];
        let mut attempts = (0..ATTEMPTS).map(|_| {
            let done = interrupt_when(&guest, (&words, &file), has_begun, signal);
            if is_late(&done) {
                guest.kata_network("update-routes", &routes(20)).ok();
            }
            done
        });
        let done = attempts.find(|done| !is_late(done));
        let done = done.expect("each change was complete before the signal");
        assert_undone(&done, signal);
        assert_eq!(done.out, "null\n", "{command}");
        assert_eq!(shown(), before, "{command}");
    }
    guest.kata_network("update-routes", "[]").ok();
}

const SERVICES: u32 = 5_000;

/// Services with one server each, of which the kernel keeps deleted ones in a list by address.
fn rules(net: u8) -> String {
    let mut rules = String::new();
    for number in 0..SERVICES {
        let host = format!("{}.{}", number / 250, number % 250);
        let vip = format!("{net}.{host}.1:80");
        writeln!(rules, "-A -t {vip} -s rr").unwrap();
        writeln!(rules, "-a -t {vip} -r 10.{net}.{host}:8080 -g -w 3").unwrap();
    }
    rules
}

#[test]
fn restore_interrupted_midway_is_undone() {
    let guest = Guest::start(Machine::Q35);
    // A restarted command finds the modules loaded.
    guest.ipvsadm("-A -f 1 -s rr").ok();
    guest.ipvsadm("-C").ok();
    let saved = || {
        let mut lines: Vec<String> = guest
            .exec("ipvsadm -Sn")
            .ok()
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    let file = guest.file("rules");
    std::fs::write(&file, rules(21)).unwrap();
    let is_added = "ipvsadm -Ln -t 21.0.0.1:80 >/dev/null 2>&1";
    let is_removed = "! ipvsadm -Ln -t 20.0.0.1:80 >/dev/null 2>&1";
    let either = format!("{is_added} || {is_removed}");
    let words = |options: &[&'static str]| [&["ipvs", guest.id()], options, &["-R"]].concat();
    assert_eq!(saved(), [""; 0]);
    let done = interrupt_when(&guest, (&words(&[]), &file), is_added, Signal::SIGTERM);
    assert_undone(&done, Signal::SIGTERM);
    assert_eq!(saved(), [""; 0]);
    run(&mut patchbay(guest.run_dir(), &words(&[])), &rules(20)).ok();
    let before = saved();
    assert_eq!(before.len(), 2 * SERVICES as usize);
    for (option, has_begun, signal) in [
        ("--replace", &*either, Signal::SIGINT),
        ("--merge", is_added, Signal::SIGHUP),
    ] {
        let words = words(&[option]);
        let done = interrupt_when(&guest, (&words, &file), has_begun, signal);
        assert_undone(&done, signal);
        assert_eq!(saved(), before, "{option}");
    }
}

/// Duplicate address detection takes a second or two.
#[test]
fn apply_interrupted_is_undone() {
    let guest = Guest::start(Machine::Q35);
    let card = card().address("fd00::3/64").set("dad", json!(true));
    guest.plug(&card).ok();
    guest.reset();
    let words = ["nic", "apply", guest.id(), "--name", "eth-test"];
    let command = patchbay(guest.run_dir(), &words);
    let state = || guest.kata_network("list-ifaces", "").json()[0]["state"].clone();
    let addresses = || guest.exec("ip -o addr show scope global").ok();
    let not_configured = json!("not configured since the guest's restart");
    assert_eq!((state(), &*addresses()), (not_configured.clone(), ""));
    let (labels, done) = steps(&command, "");
    done.ok();
    assert!(addresses().contains("fd00::3/64"));
    guest.reset();
    let rpc = "rpc ConfigureInterface";
    let point = Point {
        step: labels.iter().position(|label| label == rpc).unwrap(),
        stop: Stop::After,
    };
    let (at, done) = signal_at(&command, "", point, Signal::SIGINT);
    assert_eq!(at.as_deref(), Some(rpc));
    assert_undone(&done, Signal::SIGINT);
    assert_eq!((state(), &*addresses()), (not_configured, ""));
    guest.patchbay(&words).ok();
    assert_eq!(state(), json!(null));
}
