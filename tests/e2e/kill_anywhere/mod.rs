//! A command is killed before and after each of its steps. After the next command the sandbox has
//! either its old state or the new one.
//!
//! The state is that of QEMU's monitor, of QEMU's `/proc`, of `ip`, `ipvsadm` and the kernel's tables.
//! QMP queries change nothing, so a random quarter of them is taken; `PATCHBAY_FULL=1` takes all.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use fastrand::Rng;
use patchbay_tests::tracer::{Outcome, Point, Stop, kill_at, steps};
use patchbay_tests::{Card, Guest, Machine, Side, Testpmd, patchbay, rng};
use serde_json::{Value, json};

fn card() -> Card {
    Card::named("eth-test")
        .set("mtu", 1400)
        .address("172.16.0.3/16")
        .address("fd00::3/64")
        .queues(2)
}

/// State outside the guest: devices, backends, character devices and descriptors of QEMU, links of the
/// host, and the journal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outside {
    pub(crate) devices: Vec<String>,
    backends: usize,
    chardevs: usize,
    descriptors: usize,
    links: Vec<(String, u64, bool)>,
    /// Filters of the link net1.
    filters: String,
    journal: Vec<String>,
}

impl Outside {
    pub(crate) fn of(guest: &Guest) -> Self {
        let mut monitor = guest.monitor();
        let chardevs = monitor.run("query-chardev", json!({}));
        Self {
            devices: monitor.devices(),
            backends: monitor.backends().lines().count(),
            chardevs: chardevs.as_array().unwrap().len(),
            // Includes the monitor session of this function, always.
            descriptors: guest.qemu_descriptors(),
            links: links(guest),
            filters: filters(guest),
            journal: guest.journal(),
        }
    }
}

/// Returns name, MTU and administrative state of each link; the carrier changes asynchronously.
fn links(guest: &Guest) -> Vec<(String, u64, bool)> {
    let links = guest.netns().ip("-j link show").json();
    let links = links.as_array().unwrap().iter().map(|link| {
        let name = link["ifname"].as_str().unwrap().to_owned();
        let up = link["flags"].as_array().unwrap().contains(&"UP".into());
        (name, link["mtu"].as_u64().unwrap(), up)
    });
    links.collect()
}

/// Returns the filters of the link net1, without the index of the action, which counts up.
fn filters(guest: &Guest) -> String {
    let shown = guest.netns().exec("tc filter show dev net1 ingress").out;
    let lines = shown.lines().filter(|line| !line.contains("index "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Kills a command at each point; `converge` runs the next command and asserts the state.
pub(crate) fn sweep(
    rng: &RefCell<Rng>,
    (command, input): (&Command, &str),
    prepare: impl Fn(),
    converge: impl Fn(),
) {
    let begun = Instant::now();
    prepare();
    let (steps, done) = steps(command, input);
    done.ok();
    converge();
    let both = |step| [Stop::Before, Stop::After].map(|stop| Point { step, stop });
    let mut points: Vec<Point> = (0..steps.len()).flat_map(both).collect();
    if std::env::var_os("PATCHBAY_FULL").is_none() {
        let queries = |point: &Point| steps[point.step].starts_with("qmp q") && point.step > 0;
        points.retain(|point| !queries(point) || rng.borrow_mut().u64(..4) == 0);
    }
    let mut killed: BTreeMap<String, usize> = BTreeMap::new();
    for point in &points {
        prepare();
        match kill_at(command, input, *point) {
            Outcome::Killed(label) => {
                eprintln!("killed {:?} {label} ({})", point.stop, point.step);
                *killed.entry(label).or_default() += 1;
            }
            Outcome::Exited(done) => drop(done.ok()),
        }
        converge();
    }
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect();
    eprintln!(
        "{}: killed at {} of {} points in {:?}: {killed:?}",
        words.join(" "),
        killed.values().sum::<usize>(),
        points.len(),
        begun.elapsed()
    );
}

fn kata_network(guest: &Guest, command: &str) -> Command {
    patchbay(guest.run_dir(), &["kata-network", command, guest.id(), "-"])
}

/// Returns the card's addresses in the guest.
fn inside(guest: &Guest) -> String {
    guest.exec("ip -o addr show eth-test").out
}

/// Sweeps over plugging or unplugging a card. Every state in between is followed by a random next
/// command.
fn sweep_card(guest: &Guest, command: &'static str, card: &Card) {
    let rng = RefCell::new(rng());
    // The first card leaves QEMU with more descriptors permanently.
    guest.plug(card).ok();
    let plugged = Outside::of(guest);
    guest.unplug(card).ok();
    let absent = Outside::of(guest);
    let converge = || {
        guest.kata_network("list-ifaces", "").ok();
        if rng.borrow_mut().u64(..2) == 0 {
            guest.plug(card).ok();
            assert_eq!(Outside::of(guest), plugged);
            let inside = inside(guest);
            assert!(inside.contains("172.16.0.3/16"), "{inside}");
            assert!(inside.contains("fd00::3/64"), "{inside}");
        } else {
            guest.unplug(card).ok();
            assert_eq!(Outside::of(guest), absent);
            assert_eq!(inside(guest), "");
        }
    };
    let opposite = if command == "add-iface" {
        "del-iface"
    } else {
        "add-iface"
    };
    let prepare = || drop(guest.kata_network(opposite, &card.json()).ok());
    sweep(
        &rng,
        (&kata_network(guest, command), &card.json()),
        prepare,
        converge,
    );
}

/// Starts a guest whose TAP device exists before the card.
fn with_tap(machine: Machine) -> Guest {
    let guest = Guest::start(machine);
    let add = "tuntap add tap-test mode tap multi_queue";
    guest.netns().ip(add).ok();
    guest
}

#[test]
fn plug_existing_tap_killed_is_done_or_undone() {
    sweep_card(&with_tap(Machine::Q35), "add-iface", &card());
}

#[test]
fn unplug_existing_tap_killed_is_done_or_undone() {
    sweep_card(&with_tap(Machine::Q35), "del-iface", &card());
}

#[test]
fn plug_own_tap_killed_is_done_or_undone() {
    sweep_card(&Guest::start(Machine::Pc), "add-iface", &card());
}

#[test]
fn unplug_own_tap_killed_is_done_or_undone() {
    sweep_card(&Guest::start(Machine::Pc), "del-iface", &card());
}

/// Sweeps over a card that mirrors a link.
fn sweep_mirror(command: &'static str) {
    let guest = Guest::start(Machine::Q35);
    let netns = guest.netns();
    for words in [
        "link add net1 mtu 1400 type veth peer peer1",
        "link set net1 up",
        "link set peer1 up",
        "addr add 172.16.0.3/16 dev net1",
        "addr add fd00::3/64 dev net1 nodad",
        "route add 10.2.0.0/16 via 172.16.0.1",
    ] {
        netns.ip(words).ok();
    }
    let card = Card::of_link("net1").set("name", "eth-test").queues(2);
    sweep_card(&guest, command, &card);
}

#[test]
fn plug_mirror_killed_is_done_or_undone() {
    sweep_mirror("add-iface");
}

#[test]
fn unplug_mirror_killed_is_done_or_undone() {
    sweep_mirror("del-iface");
}

/// Returns the MTU of the TAP and that of the card in the guest.
fn mtus(guest: &Guest) -> (u64, u64) {
    let outside = guest.netns().ip("-j link show tap-test").json();
    let inside = guest.ip("link show eth-test");
    let mtu = |links: &Value| links[0]["mtu"].as_u64().unwrap();
    (mtu(&outside), mtu(&inside))
}

/// At each point the TAP takes what the guest sends. Another command settles what was begun.
#[test]
fn update_mtu_killed_is_done_or_undone() {
    let rng = RefCell::new(rng());
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    let document = |mtu: u64| json!({"name": "eth-test", "mtu": mtu}).to_string();
    let other = Card::named("eth-other").mac("02:00:00:00:00:02");
    for (before, after) in [(1400, 9000), (9000, 1400)] {
        let prepare = || drop(guest.kata_network("update-iface", &document(before)).ok());
        let converge = || {
            let (outside, inside) = mtus(&guest);
            assert!(outside >= inside, "{outside} {inside}");
            assert!(inside == before || inside == after, "{inside}");
            let expected = if rng.borrow_mut().u64(..2) == 0 {
                guest.plug(&other).ok();
                guest.unplug(&other).assert_null();
                inside
            } else {
                guest.kata_network("update-iface", &document(after)).ok();
                after
            };
            assert_eq!(mtus(&guest), (expected, expected));
        };
        let command = kata_network(&guest, "update-iface");
        sweep(&rng, (&command, &document(after)), prepare, converge);
    }
}

/// Sweeps over a card with a permanent vhost-user backend.
fn sweep_port(command: &'static str) {
    let guest = Guest::start(Machine::Q35);
    let socket = guest.file("vhost-user1");
    let _backend = Testpmd::start(guest.netns(), &socket, 2, Side::Server);
    sweep_card(&guest, command, &card().vhost_user(&socket));
}

#[test]
fn plug_vhost_user_killed_is_done_or_undone() {
    sweep_port("add-iface");
}

#[test]
fn unplug_vhost_user_killed_is_done_or_undone() {
    sweep_port("del-iface");
}

/// Counts the routes that the kernel did not create.
fn routes(guest: &Guest) -> usize {
    let routes = guest.ip("route show");
    let ours = routes.as_array().unwrap().iter();
    ours.filter(|route| route["protocol"] != "kernel").count()
}

#[test]
fn routes_killed_are_all_or_none() {
    let rng = RefCell::new(rng());
    let guest = Guest::start(Machine::Q35);
    guest.plug(&card()).ok();
    let route = |number| json!({"dest": format!("20.{number}.0.0/16"), "device": "eth-test"});
    let batch = (0..200).map(route).collect::<Value>().to_string();
    let none = || drop(guest.kata_network("update-routes", "[]").ok());
    let all = || drop(guest.kata_network("update-routes", &batch).ok());
    let assert_all_or_nothing = || {
        guest.kata_network("list-routes", "").ok();
        let there = routes(&guest);
        assert!(there == 0 || there == 200, "{there}");
    };
    sweep(
        &rng,
        (&kata_network(&guest, "add-route"), &batch),
        none,
        assert_all_or_nothing,
    );
    sweep(
        &rng,
        (&kata_network(&guest, "update-routes"), &batch),
        none,
        assert_all_or_nothing,
    );
    sweep(
        &rng,
        (&kata_network(&guest, "del-route"), &batch),
        all,
        assert_all_or_nothing,
    );
}

/// Returns the kernel's IPVS table without the service of the command that follows a kill.
fn table(guest: &Guest) -> String {
    let table = guest.exec("cat /proc/net/ip_vs").ok();
    let lines = table.lines().filter(|line| !line.starts_with("FWM"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns services without servers: a deleted server slows down later ones for two minutes.
fn rules(network: u8) -> String {
    let service = |number| {
        format!(
            "-A -t 10.{network}.{}.{}:80 -s rr\n",
            number / 200,
            number % 200
        )
    };
    (0..6000).map(service).collect()
}

fn restore(guest: &Guest, option: &'static [&'static str]) -> Command {
    let words = ["kata-ipvs", "ipvsadm", "--restore", "-", guest.id()];
    patchbay(guest.run_dir(), &[&words, option].concat())
}

#[test]
fn restore_killed_is_all_or_nothing() {
    let rng = RefCell::new(rng());
    let guest = Guest::start(Machine::Q35);
    let (old, new) = (rules(1), rules(2));
    let clear = || drop(guest.ipvsadm("-C").ok());
    guest.restore(&[], &new).ok();
    let whole = table(&guest);
    assert_eq!(guest.exec("ipvsadm -Sn").ok().lines().count(), 6000);
    guest.restore(&["--replace"], &old).ok();
    let before = table(&guest);
    clear();
    let nothing = table(&guest);
    let seen = RefCell::new(BTreeMap::new());
    let assert_all_or_nothing = |untouched: &str| {
        guest.ipvsadm("-A -f 4711 -s rr").ok();
        let there = table(&guest);
        assert!(there == whole || there == untouched, "{}", there.len());
        *seen.borrow_mut().entry(there == whole).or_insert(0) += 1;
        clear();
    };
    sweep(&rng, (&restore(&guest, &[]), &new), clear, || {
        assert_all_or_nothing(&nothing);
    });
    let replace = restore(&guest, &["--replace"]);
    // A file sent completely before the kill can take effect after the next command.
    let old_first = || drop(guest.restore(&["--replace"], &old).ok());
    sweep(&rng, (&replace, &new), old_first, || {
        assert_all_or_nothing(&before);
    });
    eprintln!("whole or not: {seen:?}");
}

#[test]
fn cleanup_killed_is_completed_by_the_next() {
    let rng = RefCell::new(rng());
    let guest = Guest::start(Machine::Q35);
    let insert = "for port in 1001 1002 1003 1004 1005; do conntrack -I -p tcp -s 10.0.0.1 \
                  -d 10.0.0.2 --sport $port --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED \
                  -t 900; done; conntrack -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 80 \
                  -u SEEN_REPLY,ASSURED -t 900; true";
    let insert = ["exec", guest.id(), "--", "sh", "-c", insert];
    let flows = || drop(guest.sandbox(&insert).ok());
    let words = "--orig-dst 10.0.0.2 --protonum 6";
    // Loads the modules of conntrack, which the guest can't load on demand.
    guest.cleanup(words).ok();
    let cleanup = ["kata-ipvs", "cleanup", "--parameters", words, guest.id()];
    let cleanup = patchbay(guest.run_dir(), &cleanup);
    sweep(&rng, (&cleanup, ""), flows, || {
        guest.cleanup(words).ok();
        let left = guest.exec("conntrack -L").ok();
        assert_eq!(
            left.lines().filter(|line| line.starts_with("tcp")).count(),
            0
        );
        assert_eq!(
            left.lines().filter(|line| line.starts_with("udp")).count(),
            1
        );
    });
}
