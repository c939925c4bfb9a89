//! A monitor that sends errors, nothing or malformed replies at each step of a plug.

mod faults;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
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

/// A round trip takes a third of a millisecond or more. One is for the session, two are for the object model:
/// lists of devices, and their properties. QEMU takes a single descriptor at a time.
#[test]
fn plug_queries_the_monitor_in_few_round_trips() {
    let machine = FakeMachine::new(|request| {
        let is_acpi = request["arguments"]["property"] == "acpi-device";
        is_acpi.then(|| Some(json!({"return": "/machine/q35/ich9"})))
    });
    machine.command("add-iface");
    let trips = machine.monitor.trips();
    let connect = &["qmp_capabilities", "query-status", "x-query-virtio-status"][..];
    let lists = &["qom-get", "qom-list", "qom-list", "qom-list"];
    // Two of the ACPI device, and bus, address and hot-plug switch of a port.
    let properties = &["qom-get"; 5];
    let change = &["getfd", "getfd", "netdev_add", "device_add"].map(|name| vec![name]);
    assert_eq!(trips[..3], [connect, lists, properties]);
    assert_eq!(trips[3..7], *change);
    // The agent's refusal is undone in a second session.
    assert_eq!(trips[7], connect);
    let is_query = |trip: &&Vec<String>| trip.iter().any(|name| name.starts_with("qom"));
    assert_eq!(trips.iter().filter(is_query).count(), 2);
}

/// Relays a connection of hybrid vsock to an agent. Returns the number of times that the host had to wait for
/// the guest.
fn relay(mut host: &UnixStream, agent: &Path) -> u32 {
    let mut from_host = BufReader::new(host.try_clone().unwrap());
    let mut line = String::new();
    from_host.read_line(&mut line).unwrap();
    assert!(line.starts_with("CONNECT "), "{line}");
    host.write_all(b"OK 1\n").unwrap();
    let agent = UnixStream::connect(agent).unwrap();
    let (mut waits, mut bytes) = (1, [0; 4096]);
    loop {
        let mut sent = 0;
        // Everything that the host sends before it waits.
        host.set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        while let Ok(length @ 1..) = from_host.read(&mut bytes) {
            (&agent).write_all(&bytes[..length]).unwrap();
            sent += length;
        }
        if sent == 0 {
            return waits;
        }
        waits += 1;
        agent
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        while let Ok(length @ 1..) = (&agent).read(&mut bytes) {
            host.write_all(&bytes[..length]).unwrap();
        }
    }
}

/// The connection, the handshake and the change are a round trip to the guest each.
#[test]
fn ipvs_change_waits_thrice_for_the_guest_and_once_for_the_monitor() {
    let machine = FakeMachine::new(|request| {
        let is_vsock = request["execute"] == "x-query-virtio-status";
        is_vsock.then(|| Some(json!({"return": {"vhost-started": true}})))
    });
    let path = |name: &str| machine.dir.path().join(name);
    let (listener, agent) = (
        UnixListener::bind(path("vsock.sock")).unwrap(),
        path("agent.sock"),
    );
    let relay = thread::spawn(move || relay(&listener.accept().unwrap().0, &agent));
    let url = format!("hvsock://{}:961", path("vsock.sock").display());
    let words = [
        "kata-ipvs",
        "ipvsadm",
        "--parameters",
        "-A -t 10.0.0.1:80",
        "x",
        "--agent",
        &url,
    ];
    let mut command = patchbay(machine.dir.path(), &words);
    run(command.arg("--qmp").arg(path("qmp.sock")), "").ok();
    assert_eq!(relay.join().unwrap(), 3);
    let session = ["qmp_capabilities", "query-status", "x-query-virtio-status"];
    assert_eq!(machine.monitor.trips(), [session]);
}
