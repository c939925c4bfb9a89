//! `patchbay monitor`: events of guests by iproute2's commands, and of the host by patchbay's.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patchbay_tests::{
    AGENT_PID, Card, Configure, FakeAgent, Guest, Machine, Netns, await_value, patchbay, temp_dir,
};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// Running `patchbay monitor --format json`.
struct Monitoring {
    child: Child,
    lines: Receiver<String>,
}

impl Monitoring {
    fn start(run_dir: &Path, words: &[&str]) -> Self {
        let words = [&["monitor", "--format", "json"], words].concat();
        let mut command = patchbay(run_dir, &words);
        command.env("PATCHBAY_KATA_ROOTS", run_dir.join("none"));
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines() {
                // The test has ended.
                let _ = sender.send(line.unwrap());
            }
        });
        Self { child, lines }
    }

    /// The same, for a sandbox whose events come.
    fn of_guest(guest: &Guest) -> Self {
        let monitoring = Self::start(guest.run_dir(), &[guest.id()]);
        monitoring.expect(&json!({"object": "agent", "change": "connected"}));
        monitoring
    }

    /// Returns the next event that has these members.
    #[track_caller]
    fn expect(&self, members: &Value) -> Value {
        self.expect_any(std::slice::from_ref(members))
    }

    /// Returns the next event that has the members of one of these.
    #[track_caller]
    fn expect_any(&self, wanted: &[Value]) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                let from = others.len().saturating_sub(20);
                panic!("{wanted:?} instead of {:#?}", &others[from..]);
            };
            let event: Value = serde_json::from_str(&line).unwrap();
            let has = |members: &Value| {
                let mut members = members.as_object().unwrap().iter();
                members.all(|(key, value)| event[key] == *value)
            };
            if wanted.iter().any(has) {
                return event;
            }
            others.push(line);
        }
    }

    /// Waits until it watches a folder, and has looked at the files after that.
    fn await_watch(&self, folder: &Path) {
        let inode = format!(" ino:{:x} ", fs::metadata(folder).unwrap().ino());
        let folder = format!("/proc/{}/fdinfo", self.child.id());
        await_value(&true, || {
            let files = fs::read_dir(&folder).unwrap().flatten();
            let mut texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
            texts.any(|text| text.contains(&inode))
        });
        thread::sleep(Duration::from_millis(300));
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().try_into().unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Ends it by a signal; returns the exit code and standard error.
    fn end(mut self, signal: Signal) -> (i32, String) {
        self.signal(signal);
        let mut error = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut error).unwrap();
        (self.child.wait().unwrap().code().unwrap(), error)
    }
}

impl Drop for Monitoring {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Changes the card eth1 and its routes; it is wan0 afterwards.
#[track_caller]
fn assert_changes_of_guest(guest: &Guest, monitoring: &Monitoring, before: f64) {
    guest.exec("ip addr add 10.1.0.2/24 dev eth1").ok();
    let address = json!({
        "object": "address", "change": "changed", "device": "eth1", "address": "10.1.0.2/24", "state": "usable"
    });
    let after = monitoring.expect(&address)["time"].as_f64().unwrap();
    assert!(before <= after && before > 1.7e9, "{before} {after}");
    guest.exec("ip route add 10.2.0.0/16 via 10.1.0.1").ok();
    let route = json!({"dest": "10.2.0.0/16", "gateway": "10.1.0.1", "device": "eth1"});
    let added = json!({"object": "route", "change": "changed", "route": route});
    monitoring.expect(&added);
    guest.exec("ip route del 10.2.0.0/16").ok();
    monitoring.expect(&json!({"object": "route", "change": "gone", "route": route}));
    guest.exec("ip link set eth1 down").ok();
    let down = json!({
        "object": "link", "change": "changed", "name": "eth1", "up": false, "carrier": false, "mtu": 1500
    });
    let index = monitoring.expect(&down)["index"].clone();
    assert_eq!(index, guest.ip("link show eth1")[0]["ifindex"]);
    guest.exec("ip link set eth1 name wan0").ok();
    monitoring.expect(&json!({"object": "link", "name": "wan0", "index": index}));
    guest.exec("ip addr del 10.1.0.2/24 dev wan0").ok();
    monitoring.expect(&json!({"object": "address", "change": "gone", "address": "10.1.0.2/24"}));
    // A name that a terminal would obey.
    guest
        .shell(r#"ip link set wan0 name "$(printf 'a\033[2J')""#)
        .ok();
    monitoring.expect(&json!({"object": "link", "name": "a\u{1b}[2J"}));
    guest.exec(&format!("ip link set if{index} name wan0")).ok();
}

#[test]
fn monitor_prints_changes_of_cards_and_of_the_guest() {
    let guest = Guest::start(Machine::Q35);
    let monitoring = Monitoring::of_guest(&guest);
    let card = Card::numbered(1);
    guest.plug(&card).ok();
    let plugged = json!({
        "sandbox": guest.id(), "object": "card", "change": "plugged", "name": "eth1", "device": "tap1",
        "hwAddr": "02:00:00:00:00:01"
    });
    let before = monitoring.expect(&plugged)["time"].as_f64().unwrap();
    assert_changes_of_guest(&guest, &monitoring, before);
    guest.unplug(&card).assert_null();
    monitoring.expect(&json!({"object": "link", "change": "gone", "name": "wan0"}));
    monitoring.expect(&json!({"object": "card", "change": "unplugged", "name": "eth1"}));
    let line = "patchbay: interrupted by SIGTERM: nothing was changed\n";
    assert_eq!(monitoring.end(Signal::SIGTERM), (143, line.to_owned()));
    assert_lines(&guest);
    let none = guest.patchbay(&["monitor", "nosuch"]);
    none.assert_error(Kind::NotFound, "no such container ID (nosuch)");
}

/// The same as lines.
#[track_caller]
fn assert_lines(guest: &Guest) {
    let words = ["monitor", guest.id(), "--format", "table", "--timestamp"];
    let monitoring = Monitoring::of(patchbay(guest.run_dir(), &words));
    let text = |end: &str| {
        let line = monitoring.lines.recv_timeout(PATIENCE).unwrap();
        let shown = line.split_once("] ").unwrap().1.to_owned();
        assert_eq!(shown, format!("{} {end}", guest.id()), "{line}");
    };
    text("agent connected");
    guest.exec("ip addr add 10.3.0.1/32 dev lo").ok();
    text("address changed 10.3.0.1/32 dev lo");
    assert_eq!(monitoring.end(Signal::SIGINT).0, 130);
}

/// Returns the resident memory of the agent in KiB.
fn agent_memory(guest: &Guest) -> u64 {
    let words = format!("grep VmRSS /proc/{AGENT_PID}/status");
    let shown = guest.shell(&words).ok();
    shown.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn monitor_of_a_flood_reports_lost_events_and_the_agent_stays() {
    let guest = Guest::start(Machine::Q35);
    let mut adds = String::new();
    for number in 1..=2500 {
        writeln!(adds, "addr add fd09::{number:x}/128 dev lo nodad").unwrap();
    }
    guest.write_file("/tmp/adds", &adds);
    let monitoring = Monitoring::of_guest(&guest);
    // One that reads nothing must not hold up the agent, or make it grow.
    let stopped = Monitoring::of_guest(&guest);
    stopped.signal(Signal::SIGSTOP);
    let before = agent_memory(&guest);
    // The kernel removes all IPv6 addresses at once.
    let remove = "for off in 1 0; do echo $off >/proc/sys/net/ipv6/conf/lo/disable_ipv6; done";
    let rounds = format!(
        "for n in 1 2 3 4 5 6 7 8 9 10; do ip -batch /tmp/adds || exit; {remove}; done; touch /tmp/done"
    );
    guest.shell(&format!("({rounds}) >/dev/null 2>&1 &")).ok();
    let lost = json!({"object": "events", "change": "lost"});
    monitoring.expect(&lost);
    let deadline = Instant::now() + 5 * PATIENCE;
    while guest.shell("test -e /tmp/done").status != 0 {
        guest.patchbay(&["neighbor", "list", guest.id()]).ok();
        assert!(Instant::now() < deadline, "the flood does not end");
    }
    let grown = agent_memory(&guest).saturating_sub(before);
    assert!(grown < 2048, "{grown} KiB");
    guest.exec("ip addr add 10.10.0.2/32 dev lo").ok();
    let marker = json!({"object": "address", "change": "changed", "address": "10.10.0.2/32"});
    monitoring.expect(&marker);
    stopped.signal(Signal::SIGCONT);
    // After more than the time between two messages of an agent it connects again.
    stopped.expect_any(&[lost, json!({"object": "agent", "change": "disconnected"})]);
    assert_eq!(stopped.end(Signal::SIGINT).0, 130);
    assert_eq!(guest.boots(), 1);
    assert_eq!(monitoring.end(Signal::SIGINT).0, 130);
}

#[test]
fn monitor_follows_sandboxes_that_start_and_end() {
    let node = Arc::new(temp_dir());
    let monitoring = Monitoring::start(node.path(), &[]);
    let guest = Guest::start_on(&node, Netns::new(), &[]);
    let of = |object: &str, change: &str| json!({"sandbox": guest.id(), "object": object, "change": change});
    monitoring.expect(&of("sandbox", "appeared"));
    monitoring.expect(&of("agent", "connected"));
    guest.reset();
    monitoring.expect(&of("agent", "disconnected"));
    monitoring.expect(&of("agent", "connected"));
    guest.exec("ip addr add 10.9.0.1/32 dev lo").ok();
    monitoring.expect(&of("address", "changed"));
    let ended = of("sandbox", "ended");
    drop(guest);
    monitoring.expect(&ended);
    assert_eq!(monitoring.end(Signal::SIGINT).0, 130);
}

#[test]
fn monitor_of_an_agent_without_events_warns_and_prints_those_of_the_host() {
    let dir = temp_dir();
    let folder = dir.path().join("old");
    let qmp = folder.join("qmp.sock");
    register(dir.path(), "old", &qmp);
    let _monitor = UnixListener::bind(&qmp).unwrap();
    let _agent = FakeAgent::serve(&folder.join("agent.sock"), Configure::Hang);
    let mut monitoring = Monitoring::start(dir.path(), &[]);
    let mut error = BufReader::new(monitoring.child.stderr.take().unwrap());
    let mut line = String::new();
    error.read_line(&mut line).unwrap();
    let expected = "events of the guest of old are left out: the sandbox's agent (version ''";
    assert!(
        line.contains(expected) && line.contains("lacks the feature 'events'"),
        "{line}"
    );
    fs::remove_dir_all(&folder).unwrap();
    monitoring.expect(&json!({"sandbox": "old", "object": "sandbox", "change": "ended"}));
}

/// Registers a sandbox with its agent in its folder.
fn register(run_dir: &Path, id: &str, qmp: &Path) {
    let folder = run_dir.join(id);
    fs::create_dir(&folder).unwrap();
    let url = format!("unix://{}", folder.join("agent.sock").display());
    let file = json!({"qmp": qmp, "agent": url, "netns": null, "pid": null});
    fs::write(folder.join("sandbox.json"), file.to_string()).unwrap();
}

/// QEMU makes its monitor after the registration, in another folder, and again after its end, while the prefix
/// is ambiguous and a registration is being written.
#[test]
fn monitor_by_a_prefix_follows_a_machine_that_starts_again() {
    let (dir, sockets) = (temp_dir(), temp_dir());
    let qmp = sockets.path().join("qmp.sock");
    register(dir.path(), "vm1", &qmp);
    let monitoring = Monitoring::start(dir.path(), &["vm"]);
    let of = |change: &str| json!({"sandbox": "vm1", "object": "sandbox", "change": change});
    let registration = dir.path().join("vm1/sandbox.json");
    monitoring.await_watch(sockets.path());
    for _ in 0..2 {
        let listener = UnixListener::bind(&qmp).unwrap();
        monitoring.expect(&of("appeared"));
        let other = dir.path().join("vm2");
        if !other.exists() {
            register(dir.path(), "vm2", &sockets.path().join("other.sock"));
        }
        let whole = fs::read_to_string(&registration).unwrap();
        fs::write(&registration, "{").unwrap();
        thread::sleep(Duration::from_millis(300));
        fs::write(&registration, whole).unwrap();
        thread::sleep(Duration::from_millis(300));
        assert_eq!(monitoring.lines.try_recv().ok(), None);
        drop(listener);
        fs::remove_file(&qmp).unwrap();
        monitoring.expect(&of("ended"));
    }
    assert_eq!(monitoring.end(Signal::SIGINT).0, 130);
}

/// Adds services until one is reported: those of the first list are not.
fn await_comparison(guest: &Guest, monitoring: &Monitoring) {
    for port in 1..40 {
        guest.ipvsadm(&format!("-A -t 10.0.0.9:{port} -s rr")).ok();
        let deadline = Instant::now() + Duration::from_secs(3);
        while let Ok(line) = monitoring
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if line.contains(r#""object":"service""#) {
                return;
            }
        }
    }
    panic!("no service is reported");
}

/// The kernel reports no change of IPVS, so the table is compared. ipvsadm is another program of the guest.
#[test]
fn monitor_with_ipvs_reports_changes_of_any_program() {
    let guest = Guest::start(Machine::Q35);
    let words = [guest.id(), "--ipvs", "1"];
    let monitoring = Monitoring::start(guest.run_dir(), &words);
    monitoring.expect(&json!({"object": "agent", "change": "connected"}));
    await_comparison(&guest, &monitoring);
    let service = "-t 10.0.0.1:80";
    let server = "-t 10.0.0.1:80 -r 10.0.0.2:80 -m";
    let expect = |object: &str, change: &str, rule: &str| {
        monitoring.expect(&json!({"object": object, "change": change, "rule": rule}));
    };
    guest.ipvsadm(&format!("-A {service} -s wrr")).ok();
    expect("service", "changed", &format!("-A {service} -s wrr"));
    guest.ipvsadm(&format!("-a {server} -w 1")).ok();
    expect("server", "changed", &format!("-a {server} -w 1"));
    guest.ipvsadm(&format!("-e {server} -w 3")).ok();
    expect("server", "changed", &format!("-e {server} -w 3"));
    guest.ipvsadm(&format!("-d {service} -r 10.0.0.2:80")).ok();
    expect("server", "gone", &format!("-d {service} -r 10.0.0.2:80"));
    guest.ipvsadm(&format!("-D {service}")).ok();
    expect("service", "gone", &format!("-D {service}"));
}
