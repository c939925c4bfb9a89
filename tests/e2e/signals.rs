//! SIGINT, SIGTERM and SIGHUP in the middle of a command: it is undone or complete, and its last line
//! states the outcome.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patchbay_tests::tracer::{Point, Stop, signal_at, steps};
use patchbay_tests::{Card, Configure, Done, FakeAgent, Guest, Machine, patchbay, rng};
use serde_json::json;

const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

fn card() -> Card {
    Card::named("eth-test").address("172.16.0.3/16").queues(2)
}

/// Result of a command that got a signal.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Unchanged,
    Stopped,
    Complete,
}

/// Asserts that the exit code and the last line agree; returns the outcome.
fn end(done: &Done, signal: Signal) -> End {
    let line = done.err.lines().last().unwrap_or_default();
    if done.status == 0 {
        assert_eq!(
            line,
            format!("patchbay: {signal} came too late: the command is complete")
        );
        return End::Complete;
    }
    assert_eq!(done.status, 128 + signal as i32, "{done}");
    let reason = line.strip_prefix(&format!("patchbay: interrupted by {signal}: "));
    match reason.unwrap_or_else(|| panic!("{done}")) {
        "nothing was changed" => End::Unchanged,
        _ => End::Stopped,
    }
}

/// Sends a signal at some random points of a command. `before` prepares each run, `check` gets
/// its end.
fn sweep(
    (command, input, count): (&Command, &str, usize),
    wanted: impl Fn(&str) -> bool,
    before: impl Fn(),
    check: impl Fn(&Done, End),
) {
    let mut rng = rng();
    before();
    let (steps, done) = steps(command, input);
    done.ok();
    let points = (0..steps.len()).filter(|step| wanted(&steps[*step]));
    let mut points = rng.choose_multiple(points, count);
    points.sort_unstable();
    for step in points {
        before();
        let stop = if rng.bool() {
            Stop::Before
        } else {
            Stop::After
        };
        let signal = SIGNALS[rng.usize(..SIGNALS.len())];
        let (at, done) = signal_at(command, input, Point { step, stop }, signal);
        let Some(label) = at else {
            drop(done.ok());
            continue;
        };
        eprintln!(
            "{signal} {stop:?} {label} ({step}): {}",
            done.err.trim_end()
        );
        // The program has printed its result already.
        let is_over = ["print", "flock"].contains(&&*label) && done.err.is_empty();
        check(
            &done,
            if is_over {
                End::Complete
            } else {
                end(&done, signal)
            },
        );
    }
}

fn kata_network(guest: &Guest, command: &str) -> Command {
    patchbay(guest.run_dir(), &["kata-network", command, guest.id(), "-"])
}

/// Returns whether a step is to be tried: all but most queries, which change nothing.
fn is_change(label: &str) -> bool {
    !label.starts_with("qmp q") && !label.starts_with("connect")
}

#[test]
fn plug_interrupted_is_undone_or_complete() {
    let guest = Guest::start(Machine::Q35);
    let add = "tuntap add tap-test mode tap multi_queue";
    guest.netns().ip(add).ok();
    guest.plug(&card()).ok();
    guest.unplug(&card()).ok();
    let absent = guest.snapshot();
    sweep(
        (&kata_network(&guest, "add-iface"), &card().json(), 10),
        is_change,
        || drop(guest.unplug(&card()).ok()),
        |done, end| match end {
            End::Complete => {
                assert_eq!(
                    guest.ip("addr show eth-test")[0]["addr_info"][0]["local"],
                    "172.16.0.3"
                );
            }
            End::Unchanged | End::Stopped => {
                assert_eq!(done.out, "null\n");
                assert_eq!(guest.snapshot(), absent, "{done}");
                guest.kata_network("list-ifaces", "").assert_null();
            }
        },
    );
}

#[test]
fn unplug_interrupted_has_no_effect_or_is_complete() {
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    guest.unplug(&card()).ok();
    let absent = guest.snapshot();
    guest.plug(&card()).ok();
    let command = ["nic", "del", guest.id(), "--name", "eth-test"];
    sweep(
        (&patchbay(guest.run_dir(), &command), "", 10),
        is_change,
        || drop(guest.plug(&card()).ok()),
        |done, end| {
            if end == End::Complete {
                assert_eq!(guest.snapshot(), absent, "{done}");
                return;
            }
            assert_eq!(end, End::Unchanged, "{done}");
            let listed = guest.kata_network("list-ifaces", "").json();
            assert_eq!(listed[0]["name"], "eth-test", "{done}");
            assert_eq!(listed[0]["state"], json!(null), "{done}");
        },
    );
}

/// Starts a plug that waits for a silent agent.
fn start_blocked_plug(guest: &Guest, agent: &FakeAgent) -> Child {
    let document = guest.file("card.json");
    std::fs::write(&document, card().json()).unwrap();
    let words = ["kata-network", "add-iface", "x", document.to_str().unwrap()];
    let mut command = patchbay(guest.run_dir(), &words);
    let url = format!("unix://{}", guest.file("fake.sock").display());
    let child = command
        .args(["--agent", &url, "--netns", guest.netns().name(), "--qmp"])
        .arg(guest.file("qmp.sock"))
        .args(["--timeout", "300"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(agent.next_request().name, "eth-test");
    child
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

fn wait(child: Child) -> Done {
    let output = child.wait_with_output().unwrap();
    Done {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn plug_interrupted_while_it_waits_for_the_guest_is_undone() {
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    guest.unplug(&card()).ok();
    let absent = guest.snapshot();
    let agent = FakeAgent::serve(&guest.file("fake.sock"), Configure::Hang);
    for signal in SIGNALS {
        let child = start_blocked_plug(&guest, &agent);
        let listed = guest.kata_network("list-ifaces", "").json();
        assert_eq!(listed[0]["state"], "being plugged");
        let listed = guest
            .patchbay(&["nic", "list", guest.id(), "--json"])
            .json();
        assert_eq!(listed[0]["state"], "being plugged");
        let begun = Instant::now();
        send(&child, signal);
        let done = wait(child);
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!((end(&done, signal), &*done.out), (End::Stopped, "null\n"));
        assert!(
            done.err.ends_with("the card eth-test is unplugged again\n"),
            "{done}"
        );
        assert_eq!(guest.snapshot(), absent);
    }
}

#[test]
fn second_signal_ends_the_command_at_once() {
    let guest = Guest::start(Machine::Q35);
    let agent = FakeAgent::serve(&guest.file("fake.sock"), Configure::Hang);
    let child = start_blocked_plug(&guest, &agent);
    let begun = Instant::now();
    // The guest takes longer to release the card.
    send(&child, Signal::SIGINT);
    send(&child, Signal::SIGTERM);
    let done = wait(child);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(done.status, 143, "{done}");
    assert_eq!(
        done.err,
        "patchbay: ended by SIGTERM: the next command undoes what is unfinished\n"
    );
    let done = guest.unplug(&card());
    assert!(
        done.err.contains(
            "a command ended early while it plugged the card eth-test, which is removed now"
        ),
        "{done}"
    );
    guest.kata_network("list-ifaces", "").assert_null();
}

#[test]
fn wait_for_the_lock_is_interrupted() {
    let guest = Guest::start(Machine::Q35);
    let agent = FakeAgent::serve(&guest.file("fake.sock"), Configure::Hang);
    let plug = start_blocked_plug(&guest, &agent);
    let update = json!({"name": "eth-test", "mtu": 1400}).to_string();
    for (command, input, expected) in [
        ("del-iface", card().json(), json!("eth-test")),
        ("update-iface", update, json!(null)),
    ] {
        let file = guest.file(command);
        std::fs::write(&file, &input).unwrap();
        let words = ["kata-network", command, guest.id(), file.to_str().unwrap()];
        let mut child = patchbay(guest.run_dir(), &words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let waiting = lines.next().unwrap().unwrap();
        assert!(waiting.contains("waiting for process"), "{waiting}");
        send(&child, Signal::SIGINT);
        let line = lines.next().unwrap().unwrap();
        assert_eq!(line, "patchbay: interrupted by SIGINT: nothing was changed");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        let out: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(out["name"], expected, "{command}");
    }
    send(&plug, Signal::SIGTERM);
    assert_eq!(wait(plug).status, 143);
}

/// Rules without servers.
fn rules() -> String {
    let service = |number| format!("-A -t 10.{}.{}.1:80 -s rr\n", number / 250, number % 250);
    (0..20_000).map(service).collect()
}

#[test]
fn restore_interrupted_is_not_applied_or_complete() {
    let guest = Guest::start(Machine::Q35);
    let count = || guest.exec("ipvsadm -Sn").ok().lines().count();
    for words in [
        vec!["kata-ipvs", "ipvsadm", "--restore", "-", guest.id()],
        vec!["ipvs", guest.id(), "-R"],
    ] {
        sweep(
            (&patchbay(guest.run_dir(), &words), &rules(), 3),
            |label| ["handshake", "send"].contains(&label) || label.starts_with("rpc"),
            || drop(guest.ipvsadm("-C").ok()),
            |done, end| {
                let expected = if end == End::Complete { 20_000 } else { 0 };
                assert_eq!(count(), expected, "{done}");
            },
        );
    }
}

/// vhost-device-vsock 0.3 stops serving if a connection closes before the guest has accepted it.
#[test]
fn signal_during_the_vsock_handshake_keeps_the_proxy() {
    let guest = Guest::start(Machine::Q35);
    let words = ["kata-network", "list-routes", guest.id()];
    let command = patchbay(guest.run_dir(), &words);
    let (labels, done) = steps(&command, "");
    done.ok();
    let step = labels
        .iter()
        .position(|label| label == "handshake")
        .unwrap();
    for signal in SIGNALS {
        let point = Point {
            step,
            stop: Stop::After,
        };
        let (at, done) = signal_at(&command, "", point, signal);
        assert_eq!(at.as_deref(), Some("handshake"));
        assert_eq!(end(&done, signal), End::Unchanged);
        guest.kata_network("list-routes", "").ok();
    }
    assert_eq!(
        guest.sandbox(&["list", "--json"]).json()[0]["state"],
        "running"
    );
}

/// Duplicate address detection takes a second or two, in which the guest's part of a command waits.
#[test]
fn wait_for_duplicate_detection_is_interrupted() {
    let guest = Guest::start(Machine::Q35);
    let words = |words: &[&'static str], ip| {
        let words = [words, &["--name", "eth-test", "--dad", "--ip", ip]].concat();
        let mut command = patchbay(guest.run_dir(), &[]);
        command
            .args([words[0], words[1], guest.id()])
            .args(&words[2..]);
        command
    };
    let add = |ip| {
        words(
            &[
                "nic",
                "add",
                "--tap",
                "tap-test",
                "--mac",
                "02:00:00:00:00:01",
            ],
            ip,
        )
    };
    let set = |ip| words(&["nic", "set"], ip);
    // Interrupts the second command at a step of the first one.
    let interrupt = |[first, second]: [Command; 2], rpc: &str, between: &dyn Fn()| {
        let (labels, done) = steps(&first, "");
        done.ok();
        between();
        let point = Point {
            step: labels.iter().position(|label| label == rpc).unwrap(),
            stop: Stop::After,
        };
        let (at, done) = signal_at(&second, "", point, Signal::SIGINT);
        assert_eq!(at.as_deref(), Some(rpc));
        end(&done, Signal::SIGINT)
    };
    let delete = || {
        let words = ["nic", "del", guest.id(), "--name", "eth-test"];
        guest.patchbay(&words).ok();
    };
    // The first card leaves folders behind.
    patchbay_tests::run(&mut add("fd00::4/64"), "").ok();
    delete();
    let added = interrupt(
        [add("fd00::5/64"), add("fd00::5/64")],
        "rpc ConfigureInterface",
        &delete,
    );
    assert_eq!(added, End::Stopped);
    guest.kata_network("list-ifaces", "").assert_null();
    // The guest's kernel has the new address already, and keeps the old one.
    drop(patchbay_tests::run(&mut add("fd00::5/64"), "").ok());
    let changed = interrupt(
        [set("fd00::6/64"), set("fd00::7/64")],
        "rpc UpdateInterface",
        &|| (),
    );
    assert_eq!(changed, End::Stopped);
    let addresses = guest.exec("ip -o -6 addr show eth-test").ok();
    assert!(addresses.contains("fd00::6/64"), "{addresses}");
    assert!(!addresses.contains("fd00::7/64"), "{addresses}");
}
