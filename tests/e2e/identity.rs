//! A machine has one lock and one journal, however a command names it, and QEMU decides which backend a
//! card has, and which CID its guest has.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patchbay_tests::{
    Card, Configure, Done, FakeAgent, FakeQmp, Guest, Machine, empty_machine, journal, patchbay,
    qmp_error, run, temp_dir,
};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

use crate::kata::{Host, SANDBOX};

const NONE: [String; 0] = [];

fn card() -> Card {
    Card::named("eth-test").set("mtu", 1400)
}

/// Ways to name a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Id,
    /// Through a link to the socket, without its network namespace.
    Hand,
    Kata,
}

/// Builds commands that name one guest in different ways.
struct Names {
    guest: Guest,
    kata: Host,
    socket: std::path::PathBuf,
}

impl Names {
    fn new() -> Self {
        let guest = Guest::start(Machine::Q35);
        let kata = Host::new();
        kata.go(&guest);
        let socket = kata.root.path().join("hard-link");
        std::fs::hard_link(guest.file("qmp.sock"), &socket).unwrap();
        let add = "tuntap add tap-test mode tap multi_queue";
        guest.netns().ip(add).ok();
        Self {
            guest,
            kata,
            socket,
        }
    }

    fn command(&self, way: Way, word: &str) -> Command {
        let id = match way {
            Way::Id => self.guest.id(),
            Way::Hand => "any",
            Way::Kata => SANDBOX,
        };
        let mut command = patchbay(self.guest.run_dir(), &["kata-network", word, id, "-"]);
        match way {
            Way::Id => {}
            Way::Hand => {
                let agent = self.guest.registered()["agent"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                command.args(["--agent", &agent, "--qmp"]).arg(&self.socket);
                if word == "add-iface" {
                    command.args(["--netns", self.guest.netns().name()]);
                }
            }
            Way::Kata => {
                command.env("PATCHBAY_KATA_ROOTS", self.kata.root.path());
            }
        }
        command
    }

    fn run(&self, way: Way, word: &str) -> Done {
        run(&mut self.command(way, word), &card().json())
    }

    fn assert_plugged(&self, case: &str) {
        assert_eq!(self.guest.journal(), ["eth-test.json"], "{case}");
        assert_eq!(self.tap(), (1400, true), "{case}");
    }

    fn assert_absent(&self, case: &str) {
        assert_eq!(self.guest.journal(), NONE, "{case}");
        assert_eq!(self.tap(), (1500, false), "{case}");
        assert_eq!(self.guest.monitor().backends(), "", "{case}");
    }

    /// Returns the MTU and the state of the TAP.
    fn tap(&self) -> (u64, bool) {
        let link = &self.guest.netns().ip("-j link show tap-test").json()[0];
        let up = link["flags"].as_array().unwrap().contains(&"UP".into());
        (link["mtu"].as_u64().unwrap(), up)
    }
}

#[test]
fn card_is_the_same_by_every_name() {
    let names = Names::new();
    for (add, del) in [
        (Way::Id, Way::Hand),
        (Way::Hand, Way::Kata),
        (Way::Kata, Way::Id),
        (Way::Hand, Way::Id),
    ] {
        let case = format!("{add:?}, {del:?}");
        names.run(add, "add-iface").ok();
        names.assert_plugged(&case);
        // The same request is satisfied already.
        names.run(del, "add-iface").ok();
        names.run(del, "del-iface").ok();
        names.assert_absent(&case);
    }
    journal_of_other_backend_is_not_used(&names);
    journal_of_release_0_1_0_is_adopted(&names);
    tap_of_ended_machine_is_restored(&names);
}

/// A command with another run directory has another journal; QEMU has the backend nevertheless.
fn journal_of_other_backend_is_not_used(names: &Names) {
    let elsewhere = temp_dir();
    let run_elsewhere = |word| {
        let mut command = names.command(Way::Id, word);
        let registered = elsewhere.path().join(names.guest.id());
        let _ = std::fs::create_dir(&registered);
        let file = registered.join("sandbox.json");
        std::fs::copy(names.guest.file("sandbox.json"), file).unwrap();
        command.env("PATCHBAY_RUN_DIR", elsewhere.path());
        run(&mut command, &card().json()).ok();
    };
    names.run(Way::Id, "add-iface").ok();
    run_elsewhere("del-iface");
    assert_eq!(names.guest.monitor().backends(), "");
    run_elsewhere("add-iface");
    // The record of the first card is still here.
    assert_eq!(names.guest.journal(), ["eth-test.json"]);
    names.run(Way::Id, "del-iface").ok();
    assert_eq!(names.guest.monitor().backends(), "");
    run_elsewhere("del-iface");
    assert_eq!(journal(elsewhere.path()).len(), 0);
    names
        .guest
        .netns()
        .ip("link set tap-test mtu 1500 down")
        .ok();
}

/// That release kept the journal in the folder that registers the sandbox.
fn journal_of_release_0_1_0_is_adopted(names: &Names) {
    names.run(Way::Id, "add-iface").ok();
    let earlier = names.guest.file("cards");
    std::fs::create_dir(&earlier).unwrap();
    let file = journal(names.guest.run_dir()).remove(0);
    std::fs::rename(file, earlier.join("eth-test.json")).unwrap();
    names.run(Way::Id, "del-iface").ok();
    names.assert_absent("adopted");
    assert!(!earlier.exists());
}

fn tap_of_ended_machine_is_restored(names: &Names) {
    names.run(Way::Kata, "add-iface").ok();
    names.assert_plugged("before the end");
    let pid = names.guest.registered()["pid"].as_i64().unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    names.guest.sandbox(&["stop", names.guest.id()]).ok();
    assert_eq!(names.guest.journal(), NONE);
    assert_eq!(names.tap(), (1500, false));
}

#[test]
fn changes_by_different_names_exclude_each_other() {
    let guest = Guest::start(Machine::Q35);
    let socket = guest.file("fake.sock");
    let agent = FakeAgent::serve(&socket, Configure::Hang);
    let document = guest.file("card.json");
    std::fs::write(&document, card().json()).unwrap();
    let words = ["kata-network", "add-iface", "x", document.to_str().unwrap()];
    let mut by_hand = patchbay(guest.run_dir(), &words);
    by_hand
        .args(["--agent", &format!("unix://{}", socket.display())])
        .args(["--netns", guest.netns().name(), "--timeout", "1", "--qmp"])
        .arg(guest.file("qmp.sock"));
    by_hand.stdout(Stdio::null()).stderr(Stdio::null());
    thread::scope(|scope| {
        let first = scope.spawn(|| by_hand.status().unwrap());
        assert_eq!(agent.next_request().name, "eth-test");
        // The first command waits 6 s for its agent, longer than any waits for a monitor's greeting.
        let begun = Instant::now();
        guest.plug(&Card::numbered(2)).ok();
        assert!(begun.elapsed() > Duration::from_secs(5));
        assert!(!first.join().unwrap().success());
    });
    assert_eq!(guest.journal(), ["eth2.json"]);
}

/// Runs a command for the agent at CID 77 of a machine with this vsock device.
fn list_at_cid_77(guest_cid: impl Fn() -> Value + Send + 'static) -> Done {
    let dir = temp_dir();
    let device = "/machine/peripheral/vsock0/virtio-backend";
    let answer = move |request: &Value| {
        let arguments = &request["arguments"];
        Some(match request["execute"].as_str() {
            Some("x-query-virtio") => json!({"return": [
                {"name": "virtio-net", "path": "/machine/peripheral/net0/virtio-backend"},
                {"name": "vhost-vsock", "path": device},
            ]}),
            Some("qom-get") if arguments["property"] == "guest-cid" => {
                assert_eq!(arguments["path"], device);
                guest_cid()
            }
            _ => empty_machine(request),
        })
    };
    let _monitor = FakeQmp::serve(&dir.path().join("qmp.sock"), answer);
    let words = [
        "kata-network",
        "list-ifaces",
        "x",
        "--agent",
        "vsock://77:961",
    ];
    let mut command = patchbay(dir.path(), &words);
    run(command.arg("--qmp").arg(dir.path().join("qmp.sock")), "")
}

/// The CID of a machine that has ended can be another machine's.
#[test]
fn agent_at_the_cid_of_another_machine_is_refused() {
    let done = list_at_cid_77(|| json!({"return": 5}));
    let message = "the agent at CID 77 is in another guest: the machine has CID 5";
    done.assert_null_error(Kind::Denied, message);
    // No guest has this CID, so that the commands end after the check.
    for cid in [json!({"return": 77}), qmp_error("GenericError")] {
        let done = list_at_cid_77(move || cid.clone());
        assert!(done.err.contains("agent does not answer"), "{done}");
    }
}
