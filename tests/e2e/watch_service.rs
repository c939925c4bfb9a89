//! `patchbay watch` as a service: links and sandboxes that appear and vanish while it runs, judged by
//! iproute2 in the guest.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patchbay_tests::{
    Cases, Guest, Machine, Netns, PATIENCE, await_value, journal, patchbay, rng, temp_dir,
};
use tempfile::TempDir;

use super::mirror::{BRIDGED, Outside};

/// Running service, with its service manager.
pub(super) struct Service {
    pub(super) child: Child,
    /// Notification that it was ready.
    pub(super) ready: String,
    manager: UnixDatagram,
    _dir: TempDir,
}

impl Service {
    /// Starts the service, and waits until it is ready.
    pub(super) fn start(run_dir: &Path, words: &[&str]) -> Self {
        let dir = temp_dir();
        let socket = dir.path().join("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = patchbay(run_dir, &[&["watch"], words].concat());
        command
            .env("NOTIFY_SOCKET", socket)
            .env("WATCHDOG_USEC", "1000000")
            .env("PATCHBAY_KATA_ROOTS", dir.path())
            .stdout(Stdio::null());
        let mut service = Self {
            child: command.spawn().unwrap(),
            ready: String::new(),
            manager,
            _dir: dir,
        };
        service.ready = service.notification("READY=1");
        service
    }

    /// Waits for a notification of this state.
    #[track_caller]
    fn await_state(&self, state: &str) {
        self.notification(state);
    }

    /// Waits for a notification of this state, and returns all that it has.
    #[track_caller]
    fn notification(&self, state: &str) -> String {
        let mut buffer = [0; 256];
        let deadline = Instant::now() + PATIENCE;
        loop {
            let length = self.manager.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line == state) {
                return text;
            }
            assert!(Instant::now() < deadline, "{text} instead of {state}");
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().try_into().unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Ends the service by SIGTERM; it succeeds.
    pub(super) fn stop(mut self) {
        // Unread notifications leave no room for the last one.
        self.manager.set_nonblocking(true).unwrap();
        while self.manager.recv(&mut [0; 256]).is_ok() {}
        self.manager.set_nonblocking(false).unwrap();
        self.signal(Signal::SIGTERM);
        self.await_state("STOPPING=1");
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the addresses of global scope of the links of the guest whose names begin with `net`, with
/// the names.
fn inside(guest: &Guest) -> Vec<String> {
    let shown = guest.exec("ip -o addr show scope global").ok();
    let mut found: Vec<_> = shown
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let name = words.next().filter(|name| name.starts_with("net"))?;
            Some(format!("{name} {}", words.nth(1)?))
        })
        .collect();
    found.sort();
    found
}

const NET1: [&str; 2] = ["net1 10.1.0.2/24", "net1 fd01::2/64"];

fn in_netns(netns: &Netns, commands: &[&str]) {
    for words in commands {
        netns.ip(words).ok();
    }
}

#[test]
fn watch_follows_links_and_continues_after_kill() {
    let guest = Guest::start(Machine::Q35);
    let mut service = Service::start(guest.run_dir(), &[guest.id(), "--exclude", "x*"]);
    let outside = Outside::of(&guest, &BRIDGED);
    await_value(&NET1.map(str::to_owned).to_vec(), || inside(&guest));
    guest.exec("ping -c 2 -W 5 10.2.0.1").ok();

    // As docker network connect does.
    let to = format!("link set moved netns {}", guest.netns().name());
    in_netns(&outside.0, &["link add moved type veth peer peer5", &to]);
    in_netns(
        guest.netns(),
        &[
            "link set moved name net5",
            "addr add 10.5.0.2/24 dev net5",
            "link set net5 up",
            "link add x1 type veth peer p1",
            "link set x1 up",
        ],
    );
    let both = ["net1 10.1.0.2/24", "net1 fd01::2/64", "net5 10.5.0.2/24"];
    await_value(&both.map(str::to_owned).to_vec(), || inside(&guest));
    in_netns(guest.netns(), &["addr del fd01::2/64 dev net1"]);
    let less = ["net1 10.1.0.2/24", "net5 10.5.0.2/24"];
    await_value(&less.map(str::to_owned).to_vec(), || inside(&guest));

    service.child.kill().unwrap();
    service.child.wait().unwrap();
    in_netns(
        guest.netns(),
        &[
            "link del net5",
            "addr add 10.1.0.6/24 dev net1",
            "link add net6 type veth peer p6",
            "addr add 10.6.0.2/24 dev net6",
            "link set net6 up",
        ],
    );
    let service = Service::start(guest.run_dir(), &[guest.id(), "--exclude", "x*"]);
    let after = ["net1 10.1.0.2/24", "net1 10.1.0.6/24", "net6 10.6.0.2/24"];
    await_value(&after.map(str::to_owned).to_vec(), || inside(&guest));

    // No notification reports a static neighbor.
    in_netns(
        guest.netns(),
        &["neigh replace 10.1.0.77 lladdr 02:00:00:00:00:79 dev net1 nud permanent"],
    );
    service.signal(Signal::SIGHUP);
    await_value(&true, || {
        let shown = guest.exec("ip neigh show nud permanent").ok();
        shown.contains("10.1.0.77 dev net1 lladdr 02:00:00:00:00:79")
    });
    service.await_state("WATCHDOG=1");
    in_netns(guest.netns(), &["link del net1", "link del net6"]);
    await_value(&Vec::<String>::new(), || inside(&guest));
    await_value(&Vec::<String>::new(), || guest.journal());
    assert_ne!(guest.exec("ip link show x1").status, 0);
    service.stop();
}

/// A sandbox is watched from its start to its end; then the service lets its namespace go.
#[test]
fn watch_finds_sandboxes_that_start_and_end() {
    let node = Arc::new(temp_dir());
    let service = Service::start(node.path(), &[]);
    let guest = Guest::start_on(&node, Netns::new(), &[]);
    service.await_state("STATUS=Sandboxes: 1");
    let outside = Outside::of(&guest, &BRIDGED);
    await_value(&NET1.map(str::to_owned).to_vec(), || inside(&guest));
    drop(guest);
    service.await_state("STATUS=Sandboxes: 0");
    // The other end of a link ends with the namespace.
    await_value(&false, || outside.0.links().contains(&"peer1".to_owned()));
    service.stop();
}

/// The monitor of one machine is held; the other one gets its card meanwhile.
#[test]
fn watch_of_one_sandbox_does_not_wait_for_another() {
    let node = Arc::new(temp_dir());
    let guests = [(); 2].map(|()| Guest::start_on(&node, Netns::new(), &[]));
    let held = guests[0].monitor();
    let service = Service::start(node.path(), &[]);
    let _outsides = guests.each_ref().map(|guest| Outside::of(guest, &BRIDGED));
    await_value(&NET1.map(str::to_owned).to_vec(), || inside(&guests[1]));
    assert_eq!(inside(&guests[0]), [""; 0]);
    drop(held);
    await_value(&NET1.map(str::to_owned).to_vec(), || inside(&guests[0]));
    service.stop();
}

/// Without its card the link would have no network until the next start of the service.
#[test]
fn watch_terminated_in_replug_plugs_first() {
    let guest = Guest::start(Machine::Q35);
    let service = Service::start(guest.run_dir(), &[guest.id()]);
    let _outside = Outside::of(&guest, &BRIDGED);
    await_value(&NET1.map(str::to_owned).to_vec(), || inside(&guest));
    in_netns(guest.netns(), &["link set net1 address 02:00:00:00:00:99"]);
    let is_removing = || {
        let records = journal(guest.run_dir()).into_iter();
        let mut records = records.filter_map(|file| std::fs::read_to_string(file).ok());
        records.any(|record| record.contains(r#""phase":"removing""#))
    };
    let deadline = Instant::now() + PATIENCE;
    while !is_removing() {
        assert!(Instant::now() < deadline, "the card stays");
        thread::sleep(Duration::from_millis(2));
    }
    service.stop();
    assert_eq!(inside(&guest), NET1);
    assert_eq!(
        guest.ip("link show net1")[0]["address"],
        "02:00:00:00:00:99"
    );
}

/// Links that appear and vanish, some before they are seen, while the service is restarted now and then. A kill
/// can hit it between CONNECT and OK, which ends vhost-device-vsock 0.3.
#[test]
fn watch_restarted_among_many_links_leaves_nothing() {
    const LINKS: Cases = Cases {
        sample: 24,
        full: 1000,
    };
    let guest = Guest::start(Machine::Q35);
    let before = guest.netns().links();
    let (mut rng, mut present) = (rng(), Vec::new());
    let mut service = Service::start(guest.run_dir(), &[guest.id()]);
    for number in 0..LINKS.count() {
        let link = format!("net{number}");
        let ip = format!("10.{}.{}.2/24", number / 256, number % 256);
        let commands = [
            format!("link add {link} type veth peer peer{number}"),
            format!("addr add {ip} dev {link}"),
            format!("link set {link} up"),
        ];
        in_netns(guest.netns(), &commands.each_ref().map(String::as_str));
        if rng.bool() {
            let shown = format!("{link} {ip}");
            await_value(&true, || inside(&guest).contains(&shown));
        }
        present.push(link);
        if present.len() > 4 || rng.bool() {
            let gone = present.swap_remove(rng.usize(..present.len()));
            guest.netns().ip(&format!("link del {gone}")).ok();
        }
        if rng.usize(..5) == 0 {
            service.stop();
            service = Service::start(guest.run_dir(), &[guest.id()]);
        }
    }
    for gone in present {
        guest.netns().ip(&format!("link del {gone}")).ok();
    }
    await_value(&Vec::<String>::new(), || guest.journal());
    await_value(&Vec::<String>::new(), || inside(&guest));
    // The TAPs end with their descriptors.
    await_value(&before, || guest.netns().links());
    service.stop();
}

/// Counts the links that have been made in a namespace.
struct LinkCount<'a> {
    netns: &'a Netns,
    first: u64,
    own: u64,
}

impl<'a> LinkCount<'a> {
    fn new(netns: &'a Netns) -> Self {
        let first = Self::next(netns);
        Self {
            netns,
            first,
            own: 0,
        }
    }

    /// Returns the index of a new link.
    fn next(netns: &Netns) -> u64 {
        netns.ip("link add probe type veth peer probe2").ok();
        let shown = netns.exec("ip -j link show probe").json();
        netns.ip("link del probe").ok();
        shown[0]["ifindex"].as_u64().unwrap()
    }

    /// Returns the number of links that others have made.
    fn of_others(&mut self) -> u64 {
        self.own += 2;
        Self::next(self.netns) - self.first - self.own
    }
}

/// The TAP of an attempt must not cause the next one.
#[test]
fn watch_gives_up_a_link_until_it_changes() {
    let guest = Guest::start(Machine::Q35);
    // The kernel refuses the name of the card.
    guest.exec("ip link property add dev lo altname net1").ok();
    let service = Service::start(guest.run_dir(), &[guest.id(), "--exclude", "p*"]);
    let mut links = LinkCount::new(guest.netns());
    in_netns(
        guest.netns(),
        &["link add net1 type veth peer peer1", "link set net1 up"],
    );
    let begun = Instant::now();
    while links.of_others() < 3 {
        assert!(begun.elapsed() < PATIENCE, "no card was plugged");
        thread::sleep(Duration::from_millis(100));
    }
    // A failure that can pass would be repeated after one second, two and four.
    let repeated = Instant::now() + Duration::from_secs(8);
    while Instant::now() < repeated {
        // Read, or no room for the last state would be left.
        service.await_state("WATCHDOG=1");
    }
    assert_eq!(links.of_others(), 3);
    guest.exec("ip link property del dev lo altname net1").ok();
    in_netns(guest.netns(), &["addr add 10.1.0.2/24 dev net1"]);
    await_value(&vec!["net1 10.1.0.2/24".to_owned()], || inside(&guest));
    service.stop();
}
