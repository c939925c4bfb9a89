//! After a failure machine, host and guest are unchanged, and the error names the failed step.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use patchbay_tests::{Card, Configure, Done, FakeAgent, Guest, Machine, patchbay, run};
use patchbay_types::failure::{Failure, Kind};

fn card() -> Card {
    Card::named("eth-test")
        .address("172.16.0.3/16")
        .address("fd00::3/64")
        .queues(2)
}

/// Returns a `patchbay` command for this guest's machine with another agent.
fn with_agent(guest: &Guest, agent: &str, words: &[&str]) -> Command {
    let qmp = guest.file("qmp.sock");
    let mut command = patchbay(guest.run_dir(), words);
    command
        .arg("--qmp")
        .arg(qmp)
        .args(["--agent", agent, "--netns", guest.netns().name()]);
    command
}

fn assert_refused(done: &Done, kind: Kind, parts: &[&str]) {
    assert_eq!(done.status, i32::from(kind.exit_code()), "{done}");
    assert_eq!(done.out, "null\n", "{done}");
    for part in parts {
        assert!(done.err.contains(part), "{part}: {done}");
    }
}

#[test]
fn plug_refused_address_is_undone() {
    let guest = Guest::start(Machine::Q35);
    guest
        .exec("sysctl -w net.ipv6.conf.default.disable_ipv6=1")
        .ok();
    let snapshot = guest.snapshot();
    let done = guest.plug(&card());
    let sentences = [
        "could not configure the card",
        "could not add the address fd00::3/64",
        "Permission denied",
    ];
    assert_refused(&done, Kind::Denied, &sentences);
    assert_eq!(guest.snapshot(), snapshot);
}

#[test]
fn plug_card_unseen_by_agent_is_undone() {
    let guest = Guest::start(Machine::Q35);
    let words = "ip netns add x; ip netns exec x patchbay-agent";
    let agent = guest.second_agent(words, 1070);
    let snapshot = guest.snapshot();
    let words = ["kata-network", "add-iface", "x", "-", "--timeout", "1"];
    let done = run(&mut with_agent(&guest, &agent, &words), &card().json());
    assert_refused(
        &done,
        Kind::NotYet,
        &["no card with MAC 02:42:20:6f:a3:69 appeared at PCI path 01.0/00"],
    );
    assert_eq!(guest.snapshot(), snapshot);
}

#[test]
fn plug_silent_agent_is_undone() {
    let guest = Guest::start(Machine::Pc);
    let snapshot = guest.snapshot();
    let socket = guest.file("fake.sock");
    let _agent = FakeAgent::serve(&socket, Configure::Hang);
    let agent = format!("unix://{}", socket.display());
    let words = ["kata-network", "add-iface", "x", "-", "--timeout", "1"];
    let done = run(&mut with_agent(&guest, &agent, &words), &card().json());
    assert_refused(
        &done,
        Kind::Timeout,
        &["could not configure the card", "no answer in 6 s"],
    );
    assert_eq!(guest.snapshot(), snapshot);
}

#[test]
fn plug_killed_is_undone_by_next_command() {
    let guest = Guest::start(Machine::Q35);
    let snapshot = guest.snapshot();
    let socket = guest.file("fake.sock");
    let agent = FakeAgent::serve(&socket, Configure::Hang);
    let url = format!("unix://{}", socket.display());
    let document = guest.file("card.json");
    std::fs::write(&document, card().json()).unwrap();
    let words = ["kata-network", "add-iface", "x", document.to_str().unwrap()];
    let mut killed = with_agent(&guest, &url, &words)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(agent.next_request().name, "eth-test");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(
        guest
            .monitor()
            .devices()
            .contains(&"pbd.eth-test".to_owned())
    );

    // The next command finds the journal, even for another card.
    let _refusing = FakeAgent::serve(
        &guest.file("other.sock"),
        Configure::Refuse(Failure::new(Kind::Kernel, "no")),
    );
    let url = format!("unix://{}", guest.file("other.sock").display());
    let other = card()
        .set("name", "eth-other")
        .mac("02:42:20:6f:a3:70")
        .json();
    let done = run(
        &mut with_agent(&guest, &url, &["kata-network", "add-iface", "x", "-"]),
        &other,
    );
    let sentences = [
        "a command ended early while it plugged the card eth-test",
        "could not configure the card in the guest: no",
    ];
    assert_refused(&done, Kind::Kernel, &sentences);
    assert_eq!(guest.snapshot(), snapshot);
}

#[test]
fn plug_paused_machine_changes_nothing() {
    let guest = Guest::start(Machine::Q35);
    let outside = || {
        // One session for both, since a monitor serves one client.
        let mut monitor = guest.monitor();
        let inside = (monitor.devices(), monitor.backends());
        (inside, guest.netns().links())
    };
    let before = outside();
    guest.monitor().run("stop", serde_json::json!({}));
    let done = guest.plug(&card());
    assert_refused(&done, Kind::NotYet, &["its state is paused"]);
    assert_eq!(outside(), before);
    guest.resume();
    guest.plug(&card()).ok();
}

#[test]
fn plug_occupied_monitor_fails_in_time() {
    let guest = Guest::start(Machine::Q35);
    let snapshot = guest.snapshot();
    let held = guest.monitor();
    let begun = Instant::now();
    let done = guest.plug(&card());
    let waited = begun.elapsed();
    drop(held);
    assert_refused(
        &done,
        Kind::NotYet,
        &["gave no greeting", "extra_monitor_socket"],
    );
    assert!(waited < Duration::from_secs(7), "{waited:?}");
    assert_eq!(guest.snapshot(), snapshot);
    plug_monitor_with_full_queue_fails_in_time(&guest);
}

/// A monitor serves one client and queues another; later ones must not wait for ever.
fn plug_monitor_with_full_queue_fails_in_time(guest: &Guest) {
    let held = guest.monitor();
    // These connections stay in the monitor's queue even if they are closed.
    let waiting: Vec<_> = (0..2)
        .map(|_| std::os::unix::net::UnixStream::connect(guest.file("qmp.sock")).unwrap())
        .collect();
    let begun = Instant::now();
    let done = guest.plug(&card());
    assert!(
        begun.elapsed() < Duration::from_secs(7),
        "{:?}",
        begun.elapsed()
    );
    assert_refused(&done, Kind::NotYet, &["gave no greeting"]);
    drop((waiting, held));
}

/// Root in the guest can eject a card; QEMU keeps its backend and the TAP.
#[test]
fn plug_after_guest_eject_succeeds() {
    let guest = Guest::start(Machine::Q35);
    guest
        .netns()
        .ip("tuntap add tap-test mode tap multi_queue")
        .ok();
    guest.plug(&card()).ok();
    let eject = "for slot in /sys/bus/pci/slots/*; do \
                   [ \"$(cat $slot/address)\" = 0000:01:00 ] && echo 0 >$slot/power; done; true";
    guest
        .sandbox(&["exec", guest.id(), "--", "sh", "-c", eject])
        .ok();
    let deadline = Instant::now() + Duration::from_secs(20);
    while guest
        .monitor()
        .devices()
        .contains(&"pbd.eth-test".to_owned())
    {
        assert!(
            Instant::now() < deadline,
            "the guest has not ejected the card"
        );
    }
    assert_ne!(guest.monitor().backends(), "");
    guest.plug(&card()).ok();
    assert_eq!(guest.unplug(&card()).ok(), "null\n");
    assert_eq!(guest.journal(), Vec::<String>::new());
    assert_eq!(guest.monitor().backends(), "");
}

#[test]
fn plug_taken_name_is_refused() {
    let guest = Guest::start(Machine::Q35);
    let other = card().set("name", "eth-other").device("tap-other");
    guest.plug(&other).ok();
    guest.exec("ip link set eth-other down").ok();
    guest.exec("ip link set eth-other name eth-test").ok();
    let snapshot = guest.snapshot();
    let done = guest.plug(&card().mac("02:42:20:6f:a3:70"));
    assert_refused(&done, Kind::Exists, &["name 'eth-test' is taken"]);
    assert_eq!(guest.snapshot(), snapshot);
}

#[test]
fn plug_unsupported_host_device_fails_early() {
    let guest = Guest::start(Machine::Q35);
    let netns = guest.netns();
    netns.ip("tuntap add tap-one mode tap").ok();
    netns.ip("link add veth0 type veth peer name veth1").ok();
    netns.ip("tuntap add tun0 mode tun").ok();
    let snapshot = guest.snapshot();
    for (device, kind, sentence) in [
        (
            "tap-one",
            Kind::Invalid,
            "queues '2' is not allowed: the TAP device 'tap-one' was made with one queue",
        ),
        (
            "veth0",
            Kind::Invalid,
            "device 'veth0' exists and is not a TAP device",
        ),
        (
            "tun0",
            Kind::Invalid,
            "device 'tun0' exists and is not a TAP device",
        ),
    ] {
        let done = guest.plug(&card().device(device));
        assert_refused(&done, kind, &[sentence]);
    }
    assert_eq!(guest.snapshot(), snapshot);
    // A TAP device serves one card, with and without multi-queue.
    let shared = |number| Card::numbered(number).device("tap-one");
    let shared_multi_queue = |number| Card::numbered(number).device("tap-many").queues(2);
    for (pair, name) in [
        ([1, 2].map(shared), "eth1"),
        ([3, 4].map(shared_multi_queue), "eth3"),
    ] {
        let [first, second] = pair;
        guest.plug(&first).ok();
        let done = guest.plug(&second);
        let user = format!("is in use by the card '{name}' of this sandbox");
        assert_refused(&done, Kind::Exists, &[&user]);
    }
}
