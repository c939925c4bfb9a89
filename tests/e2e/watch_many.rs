//! `patchbay watch` over many sandboxes: memory, idle CPU time, and links of single ones. All but one have a
//! fake monitor.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use patchbay_tests::{
    Configure, FakeAgent, FakeQmp, Guest, Netns, await_value, empty_machine, temp_dir,
};
use patchbay_types::failure::{Failure, Kind};
use serde_json::json;

use super::watch_service::Service;

const SANDBOXES: usize = 200;
/// Maximum of resident memory, in KiB.
const MAX_RESIDENT: u64 = 20 << 10;
const IDLE: Duration = Duration::from_secs(5);

/// Registered sandbox without QEMU.
struct FakeSandbox {
    netns: Netns,
    monitor: FakeQmp,
}

impl FakeSandbox {
    /// Registers the sandbox in a run directory, with the agent of all fakes.
    fn register(run_dir: &Path, number: usize) -> Self {
        let folder = run_dir.join(format!("fake-{number}"));
        fs::create_dir(&folder).unwrap();
        let (netns, qmp) = (Netns::new(), folder.join("qmp.sock"));
        let monitor = FakeQmp::serve(&qmp, |request| Some(empty_machine(request)));
        let agent = format!("unix://{}", agent_socket(run_dir).display());
        let file = json!({"qmp": qmp, "agent": agent, "netns": netns.name()});
        fs::write(folder.join("sandbox.json"), file.to_string()).unwrap();
        Self { netns, monitor }
    }

    fn has_attempt(&self) -> bool {
        let requests = self.monitor.requests();
        requests
            .iter()
            .any(|request| request["execute"] == "device_add")
    }
}

fn agent_socket(run_dir: &Path) -> std::path::PathBuf {
    run_dir.join(".agent.sock")
}

/// Returns the most memory that a process has had, in KiB.
fn peak_resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().split_whitespace().next();
    number.unwrap().parse().unwrap()
}

/// Returns the CPU time of a process and of its threads that have ended, in clock ticks.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name, which can have blanks: state is field 3, utime 14, stime 15.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
    ticks(11) + ticks(12)
}

fn add_link(netns: &Netns, mac: &str) {
    for words in [
        &format!("link add net1 address {mac} type veth peer peer1"),
        "addr add 10.1.0.2/24 dev net1",
        "link set net1 up",
    ] {
        netns.ip(words).ok();
    }
}

#[test]
fn watch_of_200_sandboxes_is_small_and_idle() {
    let node = Arc::new(temp_dir());
    let refuse = Configure::Refuse(Failure::new(Kind::Invalid, "the agent says no"));
    let agent = FakeAgent::serve(&agent_socket(node.path()), refuse);
    let fakes: Vec<_> = (1..SANDBOXES)
        .map(|number| FakeSandbox::register(node.path(), number))
        .collect();
    let guest = Guest::start_on(&node, Netns::new(), &[]);
    let service = Service::start(node.path(), &["--exclude", "peer*"]);
    let status = format!("STATUS=Sandboxes: {SANDBOXES}");
    assert!(service.ready.contains(&status), "{}", service.ready);
    let pid = service.child.id();

    add_link(guest.netns(), "02:00:00:00:00:11");
    let addresses = || match guest.exec("ip link show net1").status {
        0 => guest.addresses("net1"),
        _ => Vec::new(),
    };
    await_value(&vec!["10.1.0.2/24".to_owned()], addresses);
    let shown = guest.ip("link show net1");
    assert_eq!(shown[0]["address"], "02:00:00:00:00:11");
    let fake = &fakes[SANDBOXES / 2];
    add_link(&fake.netns, "02:00:00:00:00:22");
    let request = agent.next_request();
    assert_eq!(request.mac, [2, 0, 0, 0, 0, 0x22]);
    // It is undone.
    await_value(&vec!["net1".to_owned(), "peer1".to_owned()], || {
        let mut links = fake.netns.links();
        links.sort();
        links
    });
    let attempts = fakes.iter().filter(|fake| fake.has_attempt());
    assert_eq!(attempts.count(), 1);

    // The removal of the TAP causes one more comparison, a second later at the latest.
    thread::sleep(Duration::from_secs(2));
    let begun = cpu_ticks(pid);
    thread::sleep(IDLE);
    let used = cpu_ticks(pid) - begun;
    assert!(used <= 1, "{used} ticks in {IDLE:?}");
    let resident = peak_resident(pid);
    assert!(resident <= MAX_RESIDENT, "{resident} KiB");
    eprintln!("{resident} KiB at the peak, {used} ticks in {IDLE:?}");
    service.stop();
    let asked = fakes
        .iter()
        .filter(|fake| !fake.monitor.requests().is_empty());
    assert_eq!(asked.count(), 1);
}
