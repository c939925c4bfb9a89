//! `patchbay wait`, judged by iproute2 in the guest and by QEMU.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patchbay_tests::{Card, Done, Guest, Machine, Netns, patchbay, run, temp_dir};
use patchbay_types::failure::Kind;
use serde_json::json;

use super::native::native;

/// Command in the background.
struct Waiting(Child);

impl Waiting {
    fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn of(guest: &Guest, words: &[&str]) -> Self {
        let words = [&["wait", guest.id(), "--timeout", "60"], words].concat();
        Self::start(&mut patchbay(guest.run_dir(), &words))
    }

    /// Asserts that it waits, after time for several checks.
    #[track_caller]
    fn assert_waits(&mut self) {
        thread::sleep(Duration::from_millis(500));
        assert_eq!(self.0.try_wait().unwrap(), None);
    }

    fn end(self) -> Done {
        let output = self.0.wait_with_output().unwrap();
        Done {
            status: output.status.code().unwrap_or(255),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

#[track_caller]
fn assert_silent(done: &Done) {
    assert_eq!((done.status, &*done.out, &*done.err), (0, "", ""), "{done}");
}

/// Asserts that a wait of a second for the card fails.
#[track_caller]
fn assert_late(guest: &Guest, goal: &str, message: &str) {
    let words = ["wait", guest.id(), "--card", "eth-test", "--for", goal];
    let done = guest.patchbay(&[&words[..], &["--timeout", "1"]].concat());
    done.assert_error(Kind::Timeout, message);
}

/// SIGINT ends a wait.
#[track_caller]
fn assert_interruptible(guest: &Guest) {
    let mut interrupted = Waiting::of(guest, &["--card", "eth-test"]);
    interrupted.assert_waits();
    let pid = Pid::from_raw(interrupted.0.id().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let done = interrupted.end();
    assert_eq!(done.status, 130, "{done}");
    let line = "patchbay: interrupted by SIGINT: nothing was changed\n";
    assert_eq!(done.err, line);
}

#[test]
fn wait_for_a_card_begun_before_the_change_ends_after_it() {
    let guest = Guest::start(Machine::Q35);
    let card = Card::named("eth-test");
    let for_card = |goal| ["--card", "eth-test", "--for", goal];
    assert_late(
        &guest,
        "up",
        "the card 'eth-test' is not up after 1 s: the machine has no card with this name",
    );
    let mut up = Waiting::of(&guest, &["--card", "eth-test"]);
    let mut address = Waiting::of(&guest, &for_card("address"));
    up.assert_waits();
    guest.plug(&card).ok();
    assert_silent(&up.end());
    // `operstate` follows a moment later.
    let shown = guest.ip("link show eth-test");
    let flags = shown[0]["flags"].as_array().unwrap();
    for flag in ["UP", "LOWER_UP"] {
        assert!(flags.contains(&json!(flag)), "{shown}");
    }
    address.assert_waits();
    let message = "the card 'eth-test' has no address after 1 s: it is up without one";
    assert_late(&guest, "address", message);
    guest.exec("ip addr add 172.16.0.3/16 dev eth-test").ok();
    assert_silent(&address.end());

    guest.exec("ip link set eth-test down").ok();
    assert_late(
        &guest,
        "up",
        "is not up after 1 s: it is set down in the guest",
    );
    guest.exec("ip link set eth-test up").ok();
    native(&guest, "nic set ID --name eth-test --cable down").ok();
    assert_late(&guest, "up", "is not up after 1 s: it has no carrier");
    assert_late(
        &guest,
        "gone",
        "the card 'eth-test' is not gone after 1 s: the machine has it",
    );

    let mut gone = Waiting::of(&guest, &for_card("gone"));
    gone.assert_waits();
    guest.unplug(&card).assert_null();
    assert_silent(&gone.end());
    assert_ne!(guest.exec("ip link show eth-test").status, 0);
    assert_eq!(guest.journal(), [""; 0]);

    assert_interruptible(&guest);
}

#[test]
fn wait_for_a_sandbox_begun_before_its_start_ends_after_it() {
    let node = Arc::new(temp_dir());
    let netns = Netns::new();
    let id = format!("6ec7a98-{}", netns.name());
    let wait = |words: &[&str]| {
        let mut command = patchbay(node.path(), &[&["wait"], words].concat());
        command.env("PATCHBAY_KATA_ROOTS", node.path());
        command
    };
    let done = |words: &[&str]| Waiting::start(&mut wait(words)).end();
    let line = format!("the sandbox is not ready after 1 s: no such container ID ({id})");
    done(&[&id, "--timeout", "1"]).assert_error(Kind::Timeout, &line);
    // A mistyped id must not be a success.
    let gone = ["--card", "eth1", "--for", "gone"];
    done(&[&[&*id][..], &gone].concat()).assert_error(Kind::NotFound, "no such container ID");
    done(&["a/b"]).assert_error(Kind::Invalid, "'a/b' is not allowed");
    done(&[&id, "--for", "up"]).assert_error(Kind::Invalid, "--card <NAME>");

    let mut waiting = Waiting::start(&mut wait(&[&id, "--timeout", "120"]));
    let words = ["nic", "list", &id, "--wait", "--timeout", "120"];
    let mut command = patchbay(node.path(), &words);
    let mut list = Waiting::start(command.env("PATCHBAY_KATA_ROOTS", node.path()));
    waiting.assert_waits();
    list.assert_waits();
    let guest = Guest::start_on(&node, netns, &[]);
    assert_silent(&waiting.end());
    assert_eq!(list.end().ok(), "[]\n");
    let status = guest.monitor().run("query-status", json!({}));
    assert_eq!(status["status"], "running");
    guest.monitor().run("stop", json!({}));
    let line = "the sandbox is not ready after 1 s: ";
    done(&[&id, "--timeout", "1"]).assert_error(Kind::Timeout, line);
    // Its cards end with it.
    guest.resume();
    guest.plug(&Card::named("eth1")).ok();
    let words = [&[&*id, "--timeout", "60"][..], &gone].concat();
    let mut waiting = Waiting::start(&mut wait(&words));
    waiting.assert_waits();
    drop(guest);
    assert_silent(&waiting.end());
}

#[test]
fn wait_option_of_commands_without_a_sandbox_is_refused() {
    let run_dir = temp_dir();
    let commands: &[&[&str]] = &[
        &["list"],
        &["gc"],
        &["nic", "list", "--all"],
        &["metrics"],
        &["exporter", "--listen", "127.0.0.1:0"],
        &["watch", "--once"],
        &["monitor"],
    ];
    for words in commands {
        let done = run(
            &mut patchbay(run_dir.path(), &[words, &["--wait"][..]].concat()),
            "",
        );
        done.assert_error(Kind::Invalid, "--wait is for commands of one sandbox");
    }
}
