//! A machine that is frozen, paused, killed or reset during a command: the command fails in time with a
//! typed error, nothing is left on the host, and a machine that resumes works again.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patchbay_tests::{Card, Configure, Done, FakeAgent, Guest, Machine, patchbay, run};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

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

/// Asserts that every command fails with this message and changes nothing.
fn assert_not_ready(guest: &Guest, message: &str) {
    let route = r#"{"dest":"10.9.0.0/16","gateway":"172.16.0.1","device":"eth-test"}"#;
    let update = r#"{"name":"eth-test","mtu":1400}"#;
    let (id, card) = (guest.id(), card().json());
    let done = [
        guest.kata_network("list-routes", ""),
        guest.patchbay(&["ipvs", id, "-L", "-n"]),
        guest.patchbay(&["conntrack", "list", id]),
        guest.patchbay(&["sysctl", "list", id]),
        guest.kata_network("list-ifaces", ""),
        guest.kata_network("add-route", route),
        guest.kata_network("update-iface", update),
        guest.kata_network("add-iface", &card),
        guest.kata_network("del-iface", &card),
        guest.exec("true"),
    ];
    for done in done {
        done.assert_error(Kind::NotYet, message);
    }
    let report = guest.patchbay(&["doctor", id, "--json"]);
    report.assert_error(Kind::NotYet, message);
    let report: Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!(report["agent"]["version"], Value::Null);
}

/// Asserts that the agent is still reachable.
fn assert_reachable(guest: &Guest) {
    guest.kata_network("list-routes", "").ok();
    assert_eq!(
        guest.sandbox(&["list", "--json"]).json()[0]["state"],
        "running"
    );
}

#[test]
fn commands_on_paused_machine_are_refused() {
    let guest = Guest::start(Machine::Q35);
    let snapshot = guest.snapshot();
    guest.monitor().run("stop", json!({}));
    assert_not_ready(&guest, "the machine is not running: its state is paused");
    guest.resume();
    assert_reachable(&guest);
    assert_eq!(guest.snapshot(), snapshot);
}

#[test]
fn commands_on_frozen_machine_are_refused() {
    let guest = Guest::start(Machine::Q35);
    let snapshot = guest.snapshot();
    signal_qemu(&guest, Signal::SIGSTOP);
    let pid = guest.registered()["pid"].to_string();
    let stopped = format!("QEMU (process {pid}) is stopped by a signal");
    let begun = Instant::now();
    // More commands than the monitor has room for in its queue.
    for command in ["list-routes", "add-iface", "list-ifaces", "del-iface"] {
        guest
            .kata_network(command, &card().json())
            .assert_error(Kind::NotYet, &stopped);
        guest.exec("true").assert_error(Kind::NotYet, &stopped);
        guest
            .patchbay(&["doctor", guest.id()])
            .assert_error(Kind::NotYet, &stopped);
    }
    assert!(begun.elapsed() < Duration::from_secs(4));
    // Without QEMU's process id only a connection shows that it is stopped, and the queue is short.
    let machine = unregistered(&guest);
    let connected: Vec<_> = (0..3)
        .map_while(|_| {
            let done = run(&mut machine("list-routes"), "");
            done.err.contains(&stopped).then_some(done)
        })
        .collect();
    assert!(connected.len() < 3);
    let done = run(&mut machine("list-routes"), "");
    done.assert_error(Kind::NotYet, "gave no greeting in 5 s");
    // The launcher knows the process.
    guest.exec("true").assert_error(Kind::NotYet, &stopped);
    signal_qemu(&guest, Signal::SIGCONT);
    assert_reachable(&guest);
    guest.plug(&card()).ok();
    guest.unplug(&card()).ok();
    assert_eq!(guest.snapshot(), snapshot);
}

/// Returns commands that find the machine by its sockets.
fn unregistered(guest: &Guest) -> impl Fn(&str) -> Command {
    let url = guest.registered()["agent"].as_str().unwrap().to_owned();
    move |command| {
        let words = ["kata-network", command, "x", "--agent", &url, "--qmp"];
        let mut command = patchbay(guest.run_dir(), &words);
        command.arg(guest.file("qmp.sock"));
        command
    }
}

/// Commands while another one holds the monitor and the lock.
#[test]
fn commands_during_plug_respect_frozen_machine() {
    let guest = Guest::start(Machine::Q35);
    let document = guest.file("card.json");
    std::fs::write(&document, card().json()).unwrap();
    let agent = FakeAgent::serve(&guest.file("fake.sock"), Configure::Hang);
    let url = format!("unix://{}", guest.file("fake.sock").display());
    // The fake agent's registration replaces that of the sandbox.
    let registered = guest.registered();
    let mut replaced = registered.clone();
    replaced["agent"] = url.into();
    let register = |file: &Value| {
        std::fs::write(guest.file("sandbox.json"), file.to_string()).unwrap();
    };
    register(&replaced);
    let words = [
        "kata-network",
        "add-iface",
        guest.id(),
        document.to_str().unwrap(),
    ];
    let mut plug = patchbay(guest.run_dir(), &words)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    agent.next_request();
    register(&registered);
    guest.kata_network("list-routes", "").ok();
    signal_qemu(&guest, Signal::SIGSTOP);
    let done = guest.kata_network("list-routes", "");
    done.assert_error(Kind::NotYet, "is stopped by a signal");
    signal_qemu(&guest, Signal::SIGCONT);
    plug.kill().unwrap();
    plug.wait().unwrap();
    guest.unplug(&card()).ok();
    assert_reachable(&guest);
}

/// Commands in a loop while the guest boots again.
#[test]
fn polling_rebooting_guest_keeps_proxy() {
    let guest = Guest::start(Machine::Q35);
    let mut monitor = guest.monitor();
    monitor.run("set-action", json!({"reboot": "reset"}));
    monitor.run("system_reset", json!({}));
    drop(monitor);
    let deadline = Instant::now() + Duration::from_secs(40);
    let mut refused = 0;
    loop {
        let done = guest.kata_network("list-routes", "");
        let kinds = [Kind::NotYet, Kind::NotFound].map(|kind| i32::from(kind.exit_code()));
        match done.status {
            0 => break,
            status if kinds.contains(&status) => refused += 1,
            _ => panic!("{done}"),
        }
        assert!(Instant::now() < deadline, "{done}");
    }
    assert!(refused > 0);
    assert_reachable(&guest);
}

#[test]
fn dead_proxy_is_named() {
    let guest = Guest::start(Machine::Q35);
    let processes = std::fs::read(guest.file("processes.json")).unwrap();
    let processes: Value = serde_json::from_slice(&processes).unwrap();
    let processes = processes["processes"].as_array().unwrap();
    let proxy = processes.iter().find(|process| process["role"] == "vsock");
    let proxy = proxy.unwrap()["pid"].as_i64().unwrap();
    // A connection to the paused guest, closed before the guest accepts it.
    guest.monitor().run("stop", json!({}));
    let mut stream = UnixStream::connect(guest.file("vsock.sock")).unwrap();
    stream.write_all(b"CONNECT 1061\n").unwrap();
    // Long enough for the proxy to read the line.
    std::thread::sleep(Duration::from_millis(500));
    drop(stream);
    guest.monitor().run("cont", json!({}));
    assert_broken(
        &guest,
        "the vsock proxy vhost-device-vsock has lost its worker",
    );
    kill(Pid::from_raw(proxy.try_into().unwrap()), Signal::SIGKILL).unwrap();
    assert_broken(&guest, "the vsock proxy vhost-device-vsock has ended");
}

fn assert_broken(guest: &Guest, message: &str) {
    let done = guest.kata_network("list-routes", "");
    done.assert_null_error(Kind::NotFound, message);
    assert!(
        done.err.contains("stop the sandbox and start it again"),
        "{done}"
    );
    let list = guest.sandbox(&["list", "--json"]);
    assert!(
        list.err.contains("stop the sandbox and start it again"),
        "{list}"
    );
    assert_eq!(list.json()[0]["state"], "broken");
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
    let machines = std::fs::read_dir(guest.run_dir().join(".machines"));
    assert_eq!(machines.unwrap().count(), 0);
    let done = guest.unplug(&card());
    done.assert_error(Kind::NotFound, "no such container ID");
    assert!(!guest.run_dir().join(guest.id()).exists());
}

#[test]
fn unplug_paused_machine_changes_nothing() {
    let guest = Guest::start(Machine::Q35);
    let empty = guest.snapshot();
    guest.plug(&card()).ok();
    let snapshot = guest.snapshot();
    guest.monitor().run("stop", json!({}));
    let done = guest.unplug(&card());
    done.assert_error(Kind::NotYet, "its state is paused; continue it (QMP: cont)");
    guest.resume();
    assert_eq!(guest.snapshot(), snapshot);
    guest.unplug(&card()).ok();
    assert_eq!(guest.snapshot(), empty);
}

#[test]
fn reset_machine_accepts_card_again() {
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    guest.reset();
    // Its name and addresses are gone: the same request configures it again.
    guest.plug(&card()).ok();
    assert_eq!(
        guest.ip("addr show eth-test")[0]["addr_info"][0]["local"],
        "172.16.0.3"
    );
    guest.unplug(&card()).ok();
    guest.plug(&card()).ok();
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
