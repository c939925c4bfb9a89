//! A monitor that sends errors, nothing or malformed replies at each step of a plug.

mod faults;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use patchbay_tests::{
    Card, Configure, Done, FakeAgent, FakeQmp, Netns, QmpReply, empty_machine, journal, patchbay,
    qmp_error, run, temp_dir,
};
use patchbay_types::failure::{Failure, Kind};
use serde_json::{Value, json};
use tempfile::TempDir;

fn card() -> Card {
    Card::named("eth-test").queues(2)
}

/// A machine and an agent that are both fake.
struct FakeMachine {
    dir: TempDir,
    netns: Netns,
    monitor: FakeQmp,
    _agent: FakeAgent,
}

impl FakeMachine {
    /// Replies like [`empty_machine`] unless `instead` returns another reaction.
    fn new(instead: impl Fn(&Value) -> Option<Option<Value>> + Send + 'static) -> Self {
        Self::serve(move |request| {
            let answer = instead(request).unwrap_or_else(|| Some(empty_machine(request)));
            answer.map_or(QmpReply::Nothing, QmpReply::Reply)
        })
    }

    fn serve(answer: impl Fn(&Value) -> QmpReply + Send + 'static) -> Self {
        let dir = temp_dir();
        let refuse = Configure::Refuse(Failure::new(Kind::Kernel, "the agent says no"));
        Self {
            monitor: FakeQmp::serve_with(&dir.path().join("qmp.sock"), answer),
            _agent: FakeAgent::serve(&dir.path().join("agent.sock"), refuse),
            netns: Netns::new(),
            dir,
        }
    }

    fn command(&self, command: &str) -> Done {
        let agent = format!("unix://{}", self.dir.path().join("agent.sock").display());
        let words = [
            "kata-network",
            command,
            "x",
            "-",
            "--agent",
            &agent,
            "--netns",
            self.netns.name(),
        ];
        let mut command = patchbay(self.dir.path(), &words);
        run(
            command.arg("--qmp").arg(self.dir.path().join("qmp.sock")),
            &card().json(),
        )
    }

    /// Returns the names of the commands so far.
    fn command_names(&self) -> Vec<String> {
        let requests = self.monitor.requests();
        let name = |request: &Value| request["execute"].as_str().unwrap().to_owned();
        requests.iter().map(name).collect()
    }

    /// Returns the names of the commands that change something.
    fn change_names(&self) -> Vec<String> {
        let mut names = self.command_names();
        let queries = ["q", "x-query", "human-monitor-command"];
        names.retain(|name| !queries.iter().any(|query| name.starts_with(query)));
        names
    }

    fn journal(&self) -> Vec<PathBuf> {
        journal(self.dir.path())
    }
}

/// Undoing tries to delete every object of a card, the device first.
const UNDO: [&str; 5] = [
    "device_del",
    "netdev_del",
    "chardev-remove",
    "closefd",
    "closefd",
];

fn refuse_at(step: &'static str, sentence: &str, done_before: &[&str]) {
    let machine = FakeMachine::new(move |request| {
        (request["execute"] == step).then(|| Some(qmp_error("GenericError")))
    });
    let done = machine.command("add-iface");
    done.assert_null_error(Kind::Kernel, sentence);
    assert!(done.err.contains("as the script says"), "{done}");
    assert_eq!(machine.change_names(), [done_before, &UNDO].concat());
    assert_eq!(machine.netns.links(), Vec::<String>::new());
    assert_eq!(machine.journal(), Vec::<PathBuf>::new());
}

#[test]
fn gc_card_that_cannot_be_removed_is_an_error() {
    let refuses = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&refuses);
    let machine = FakeMachine::new(move |request| {
        let is_refused = request["execute"] == "netdev_del" && switch.load(Ordering::Relaxed);
        is_refused.then(|| Some(qmp_error("GenericError")))
    });
    let plugged = machine.command("add-iface");
    plugged.assert_null_error(Kind::Kernel, "cleanup is incomplete");
    assert_eq!(machine.journal().len(), 1);
    let path = |name: &str| machine.dir.path().join(name);
    let agent = format!("unix://{}", path("agent.sock").display());
    let file = json!({"qmp": path("qmp.sock"), "agent": agent, "netns": machine.netns.name()});
    std::fs::create_dir(path("x")).unwrap();
    std::fs::write(path("x/sandbox.json"), file.to_string()).unwrap();
    let gc = || run(&mut patchbay(machine.dir.path(), &["gc"]), "");
    let done = gc();
    assert_eq!(done.status, i32::from(Kind::NotYet.exit_code()), "{done}");
    let message = "could not clean up after sandbox x: the card eth-test is not removed yet";
    assert!(done.err.contains(message), "{done}");
    refuses.store(false, Ordering::Relaxed);
    gc().ok();
    assert!(machine.journal().is_empty());
}

#[test]
fn plug_getfd_error_is_undone() {
    refuse_at("getfd", "could not hand the TAP to QEMU", &["getfd"]);
}

#[test]
fn plug_netdev_add_error_is_undone() {
    refuse_at(
        "netdev_add",
        "could not add the card's backend",
        &["getfd", "getfd", "netdev_add"],
    );
}

#[test]
fn plug_device_add_error_is_undone() {
    let before = ["getfd", "getfd", "netdev_add", "device_add"];
    refuse_at("device_add", "could not plug the card", &before);
}

#[test]
fn plug_sends_expected_qmp_commands() {
    let machine = FakeMachine::new(|_| None);
    machine
        .command("add-iface")
        .assert_null_error(Kind::Kernel, "the agent says no");
    let requests = machine.monitor.requests();
    let sent = |name: &str| {
        let request = requests
            .iter()
            .find(|request| request["execute"] == name)
            .unwrap();
        request["arguments"].clone()
    };
    let netdev = sent("netdev_add");
    let attempt = netdev["id"]
        .as_str()
        .unwrap()
        .strip_prefix("pbn.eth-test.")
        .unwrap();
    assert_eq!(
        netdev,
        json!({"type": "tap", "id": format!("pbn.eth-test.{attempt}"),
               "fds": format!("pb-{attempt}-q0:pb-{attempt}-q1")})
    );
    assert_eq!(
        sent("device_add"),
        json!({"driver": "virtio-net-pci", "id": "pbd.eth-test", "netdev": netdev["id"],
               "mac": "02:42:20:6f:a3:69", "bus": "rp1", "addr": "0x0", "romfile": "",
               "mq": true, "vectors": 6})
    );
}

/// A late reply ends the session; the next command finds the journal and undoes the plug.
#[test]
fn plug_qmp_timeout_is_undone_later() {
    let silent = std::sync::atomic::AtomicBool::new(true);
    let machine = FakeMachine::new(move |request| {
        let now = request["execute"] == "netdev_add"
            && silent.swap(false, std::sync::atomic::Ordering::Relaxed);
        now.then_some(None)
    });
    let begun = Instant::now();
    let done = machine.command("add-iface");
    done.assert_null_error(Kind::Timeout, "QEMU did not answer netdev_add within 10 s");
    assert!(
        done.err
            .contains("cleanup is incomplete and will be retried by the next command"),
        "{done}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(machine.journal().len(), 1);
    assert_eq!(machine.netns.links(), Vec::<String>::new());

    assert_eq!(machine.command("del-iface").ok(), "null\n");
    let changes = machine.change_names();
    assert_eq!(changes[3..], UNDO);
    assert_eq!(machine.journal(), Vec::<PathBuf>::new());
}

#[test]
fn plug_malformed_reply_is_undone_later() {
    let machine = FakeMachine::new(|request| {
        (request["execute"] == "device_add").then(|| Some(json!({"x": 1})))
    });
    machine
        .command("add-iface")
        .assert_null_error(Kind::Other, "malformed QMP message");
    assert_eq!(machine.netns.links(), Vec::<String>::new());
    assert_eq!(machine.command("del-iface").ok(), "null\n");
    assert_eq!(machine.journal(), Vec::<PathBuf>::new());
}

#[test]
fn plug_without_qemu_is_not_found() {
    let machine = FakeMachine::new(|_| None);
    let dir = machine.dir.path();
    std::fs::remove_file(dir.join("qmp.sock")).unwrap();
    machine
        .command("add-iface")
        .assert_null_error(Kind::NotFound, "no QEMU answers at");
}

/// A query takes 0.3 ms. A port needs those for its bus, address and hot-plug switch, the machine those
/// for ACPI, two QOM folders and a second root bus. The agent's refusal is undone in a second session.
#[test]
fn plug_sends_minimal_queries() {
    let machine = FakeMachine::new(|_| None);
    machine.command("add-iface");
    let mut questions = machine.command_names();
    questions.retain(|name| name.starts_with('q'));
    questions.sort();
    let asked = ["qmp_capabilities", "qom-get", "qom-list", "query-status"];
    let often = [2, 4, 3, 2];
    let expected = asked
        .iter()
        .zip(often)
        .flat_map(|(name, times)| vec![*name; times]);
    let expected: Vec<_> = expected.collect();
    assert_eq!(questions, expected);
}
