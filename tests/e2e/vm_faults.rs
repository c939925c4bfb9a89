//! A machine that is frozen, paused, killed or reset during a command: the command fails in time with a
//! typed error, nothing is left on the host, and a machine that resumes works again.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patchbay_tests::{Card, Configure, Done, FakeAgent, Guest, Machine, patchbay};
use patchbay_types::failure::Kind;
use serde_json::json;

fn card() -> Card {
    Card::named("eth-test").address("172.16.0.3/16").queues(2)
}

fn signal_qemu(guest: &Guest, signal: Signal) {
    let pid = guest.registered()["pid"].as_i64().unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

/// Starts a plug that waits for a silent agent.
fn start_blocked_plug(guest: &Guest) -> Child {
    let socket = guest.file("fake.sock");
    let agent = FakeAgent::serve(&socket, Configure::Hang);
    let document = guest.file("card.json");
    std::fs::write(&document, card().json()).unwrap();
    let words = ["kata-network", "add-iface", "x", document.to_str().unwrap()];
    let mut command = patchbay(guest.run_dir(), &words);
    let child = command
        .args(["--agent", &format!("unix://{}", socket.display())])
        .args(["--netns", guest.netns().name(), "--timeout", "1", "--qmp"])
        .arg(guest.file("qmp.sock"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(agent.next_request().name, "eth-test");
    child
}

/// Waits for the command; returns its result and the duration of the wait.
fn wait_timed(child: Child) -> (Done, Duration) {
    let begun = Instant::now();
    let output = child.wait_with_output().unwrap();
    let done = Done {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    (done, begun.elapsed())
}

const NO_LINKS: [String; 0] = [];

#[test]
fn frozen_machine_times_out_and_recovers() {
    let guest = Guest::start(Machine::Q35);
    signal_qemu(&guest, Signal::SIGSTOP);
    let begun = Instant::now();
    for command in ["add-iface", "del-iface", "list-ifaces"] {
        let done = guest.kata_network(command, &card().json());
        done.assert_error(Kind::Timeout, "gave no greeting in 5 s");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(18),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(guest.netns().links(), NO_LINKS);
    assert!(!guest.file("cards").exists());
    signal_qemu(&guest, Signal::SIGCONT);
    guest.plug(&card()).ok();
    guest.unplug(&card()).ok();
}

#[test]
fn freeze_during_plug_is_undone_later() {
    let guest = Guest::start(Machine::Q35);
    let snapshot = guest.snapshot();
    let child = start_blocked_plug(&guest);
    signal_qemu(&guest, Signal::SIGSTOP);
    let (done, taken) = wait_timed(child);
    // 6 s for the agent, then 10 s for the first QMP command of the undoing.
    assert!(taken < Duration::from_secs(20), "{taken:?}");
    done.assert_error(
        Kind::Timeout,
        "cleanup is incomplete and will be retried by the next command",
    );
    signal_qemu(&guest, Signal::SIGCONT);
    let words = [
        "kata-network",
        "del-iface",
        "x",
        "-",
        "--netns",
        guest.netns().name(),
    ];
    let mut command = patchbay(guest.run_dir(), &words);
    let url = guest.registered()["agent"].as_str().unwrap().to_owned();
    command
        .args(["--agent", &url, "--qmp"])
        .arg(guest.file("qmp.sock"));
    patchbay_tests::run(&mut command, &card().json()).ok();
    std::fs::remove_file(guest.file("card.json")).unwrap();
    assert_eq!(guest.snapshot(), snapshot);
}

#[test]
fn qemu_death_during_plug_leaves_nothing() {
    let guest = Guest::start(Machine::Q35);
    let child = start_blocked_plug(&guest);
    assert_eq!(guest.netns().links(), ["tap-test"]);
    signal_qemu(&guest, Signal::SIGKILL);
    let (done, taken) = wait_timed(child);
    assert!(taken < Duration::from_secs(10), "{taken:?}");
    done.assert_error(
        Kind::Timeout,
        "cleanup is incomplete and will be retried by the next command",
    );
    assert_eq!(guest.netns().links(), NO_LINKS);
    for command in ["add-iface", "del-iface", "list-ifaces"] {
        let begun = Instant::now();
        guest
            .kata_network(command, &card().json())
            .assert_error(Kind::NotFound, "no QEMU answers at");
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
    // Stopping the sandbox removes its files.
    guest.sandbox(&["stop", guest.id()]).ok();
    assert!(!guest.file("lock").exists());
    let done = guest.unplug(&card());
    done.assert_error(Kind::NotFound, "no such container ID");
    assert!(!guest.run_dir().join(guest.id()).exists());
}

#[test]
fn unplug_paused_machine_completes_later() {
    let guest = Guest::start(Machine::Q35);
    let snapshot = guest.snapshot();
    guest.plug(&card()).ok();
    guest.monitor().run("stop", json!({}));
    let begun = Instant::now();
    let done = guest.unplug(&card());
    done.assert_error(
        Kind::NotYet,
        "the guest has not released the card eth-test in 30 s",
    );
    assert!(
        begun.elapsed() < Duration::from_secs(35),
        "{:?}",
        begun.elapsed()
    );
    guest.monitor().run("cont", json!({}));
    guest.unplug(&card()).ok();
    assert_eq!(guest.snapshot(), snapshot);
}

#[test]
fn reset_machine_accepts_card_again() {
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    guest.reset();
    // Its name and addresses are gone, so it isn't accepted as the same card.
    let done = guest.plug(&card());
    done.assert_error(Kind::Exists, "interface eth-test is already exist");
    guest.unplug(&card()).ok();
    guest.plug(&card()).ok();
    assert_eq!(
        guest.ip("addr show eth-test")[0]["addr_info"][0]["local"],
        "172.16.0.3"
    );
}

#[test]
fn console_log_is_bounded() {
    let guest = Guest::start(Machine::Q35);
    let pid = guest.registered()["pid"].to_string();
    let prlimit = |words: &[&str]| {
        let mut command = std::process::Command::new("prlimit");
        let output = command.args(["--pid", &pid]).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let limits = prlimit(&["--fsize", "--raw", "--noheadings", "--output=SOFT,HARD"]);
    assert_eq!(limits.trim(), "16777216 16777216");
    // A lower limit, since the serial line takes half a minute to reach that one.
    prlimit(&["--fsize=100000"]);
    let printed = guest.shell("head -c 200000 /dev/zero > /dev/console; echo printed");
    assert_eq!(printed.ok(), "printed\n");
    let length = std::fs::metadata(guest.file("console.log")).unwrap().len();
    assert_eq!(length, 100_000);
    guest.kata_network("list-routes", "").ok();
}
