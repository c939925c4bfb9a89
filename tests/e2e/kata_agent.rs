//! Guests with Kata's agent in place of patchbay's: a fake (`patchbay-kata-agent`) with the effects and faults of
//! two versions, judged by the guest's iproute2 and by traffic.

use std::process::Command;
use std::time::{Duration, Instant};

use patchbay_tests::{Card, Done, Guest, Machine, patchbay, run};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

const UNSUPPORTED: i32 = 7;

/// Machine whose guest has the fake.
struct KataGuest {
    guest: Guest,
    agent: String,
}

impl KataGuest {
    fn start(version: &str) -> Self {
        let guest = Guest::start(Machine::Q35);
        let agent = format!("hvsock://{}:1024", guest.file("vsock.sock").display());
        let this = Self { guest, agent };
        this.serve(version);
        this
    }

    /// Starts the fake, in place of a running one, and waits until it answers.
    fn serve(&self, version: &str) {
        let start = format!(
            "if [ -e /tmp/kata ]; then pid=$(cat /tmp/kata); kill $pid; while kill -0 $pid 2>/dev/null; do :; done; fi
             patchbay-kata-agent {version} >/tmp/kata.log 2>&1 & echo $! >/tmp/kata"
        );
        self.guest.shell(&start).ok();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let listed = run(&mut self.command(&["kata-network", "list-ifaces", "x"]), "");
            if listed.status == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{listed}");
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = patchbay(self.guest.run_dir(), words);
        command.arg("--qmp").arg(self.guest.file("qmp.sock"));
        command.args(["--agent", &self.agent, "--netns", self.guest.netns().name()]);
        command
    }

    fn network(&self, command: &str, document: &Value) -> Done {
        let words = ["kata-network", command, "x", "-"];
        run(&mut self.command(&words), &document.to_string())
    }

    fn plug(&self, card: &Card) -> Done {
        run(
            &mut self.command(&["kata-network", "add-iface", "x", "-"]),
            &card.json(),
        )
    }

    fn unplug(&self, card: &Card) -> Done {
        run(
            &mut self.command(&["kata-network", "del-iface", "x", "-"]),
            &card.json(),
        )
    }

    fn routes(&self) -> String {
        self.guest.exec("ip route show proto boot").ok()
    }
}

fn card() -> Card {
    Card::named("eth-kata")
        .set("mtu", 1400)
        .address("172.16.0.3/16")
        .address("fd00::3/64")
}

fn assert_needs_patchbay_agent(done: &Done, missing: &str) {
    assert_eq!(done.status, UNSUPPORTED, "{done}");
    for part in [missing, "this needs patchbay-agent in the guest"] {
        assert!(done.err.contains(part), "{part}: {done}");
    }
}

#[test]
fn kata_agent_configures_cards() {
    let kata = KataGuest::start("3.19.1");
    let guest = &kata.guest;
    let before = guest.snapshot();
    let neighbor = json!([{"toIPAddress": {"family": 0, "address": "172.16.0.9"}, "lladdr": "02:00:00:00:00:09"}]);
    let with_neighbor = card().set("neighbors", neighbor);
    for _ in 0..2 {
        // The second one is a repetition.
        assert_eq!(kata.plug(&with_neighbor).json()["name"], "eth-kata");
        let link = &guest.ip("link show eth-kata")[0];
        assert_eq!(link["mtu"], 1400);
        assert!(
            link["flags"].as_array().unwrap().contains(&json!("UP")),
            "{link}"
        );
        assert_eq!(guest.addresses("eth-kata"), ["172.16.0.3/16", "fd00::3/64"]);
        let neighbors = guest.exec("ip neigh show nud permanent dev eth-kata").ok();
        assert!(
            neighbors.contains("172.16.0.9 lladdr 02:00:00:00:00:09"),
            "{neighbors}"
        );
    }
    let listed = run(&mut kata.command(&["kata-network", "list-ifaces", "x"]), "").json();
    assert_eq!(listed[0]["name"], "eth-kata");
    let netns = guest.netns();
    netns.ip("addr add 172.16.0.1/16 dev tap-kata").ok();
    netns.exec("ping -c 1 -W 5 172.16.0.3").ok();

    let changed = kata.network("update-iface", &json!({"name": "eth-kata", "mtu": 1300, "IPAddresses":
        [{"address": "172.16.0.3", "mask": "16"}, {"address": "fd00::3", "mask": "64"}, {"address": "10.9.0.1", "mask": "24"}]}));
    assert_eq!(changed.status, 0, "{changed}");
    assert_eq!(guest.ip("link show eth-kata")[0]["mtu"], 1300);
    assert_eq!(netns.ip("-j link show tap-kata").json()[0]["mtu"], 1300);
    let mut addresses = guest.addresses("eth-kata");
    addresses.sort();
    assert_eq!(addresses, ["10.9.0.1/24", "172.16.0.3/16", "fd00::3/64"]);
    let removed = kata.network(
        "update-iface",
        &json!({"name": "eth-kata", "IPAddresses": []}),
    );
    assert_needs_patchbay_agent(&removed, "lacks the removal of addresses");
    assert_eq!(guest.addresses("eth-kata").len(), 3);

    kata.unplug(&with_neighbor).assert_null();
    netns.ip("link del tap-kata");
    assert_eq!(guest.snapshot(), before);
}

#[test]
fn kata_agent_unable_is_refused_before_any_change() {
    let kata = KataGuest::start("3.19.1");
    let guest = &kata.guest;
    let before = guest.snapshot();
    for (unable, missing) in [
        (card().queues(2), "lacks queues"),
        (card().set("rawFlags", 128), "lacks rawFlags"),
        (card().address("fe80::7/64"), "lacks link-local addresses"),
    ] {
        assert_needs_patchbay_agent(&kata.plug(&unable), missing);
        assert_eq!(guest.snapshot(), before);
    }
    for words in [
        &["ipvs", "x", "-L"][..],
        &["conntrack", "list", "x"],
        &["sysctl", "list", "x"],
        &["export", "x"],
    ] {
        assert_needs_patchbay_agent(
            &run(&mut kata.command(words), ""),
            "agent is Kata's (version '3.19.1')",
        );
    }
    let doctor = run(&mut kata.command(&["doctor", "x"]), "");
    for part in [
        "kata-agent 3.19.1",
        "can't do: undo of addresses and routes",
    ] {
        assert!(doctor.out.contains(part), "{part}: {doctor}");
    }
    // The agent fails, and the card is unplugged again.
    guest
        .exec("sysctl -w net.ipv6.conf.all.disable_ipv6=1")
        .ok();
    guest
        .exec("sysctl -w net.ipv6.conf.default.disable_ipv6=1")
        .ok();
    let before = guest.snapshot();
    let refused = kata.plug(&card());
    assert_eq!(refused.status, 1, "{refused}");
    assert!(refused.err.contains("addr replace fd00::3/64"), "{refused}");
    assert_eq!(refused.err.lines().count(), 1, "{refused}");
    assert_eq!(guest.snapshot(), before);
}

#[test]
fn routes_by_kata_agent_are_those_of_its_version() {
    let kata = KataGuest::start("3.19.1");
    kata.plug(&card()).ok();
    let direct = json!([{"dest": "10.7.0.0/16", "device": "eth-kata"}]);
    let via = json!([{"dest": "10.8.0.0/16", "device": "eth-kata", "gateway": "172.16.0.1"}]);
    kata.network("add-route", &direct).ok();
    kata.network("update-routes", &json!([direct[0], via[0]]))
        .ok();
    let both = "10.7.0.0/16 dev eth-kata scope link \n10.8.0.0/16 via 172.16.0.1 dev eth-kata \n";
    assert_eq!(kata.routes(), both);
    assert_needs_patchbay_agent(
        &kata.network("update-routes", &via),
        "lacks deleting routes",
    );
    assert_needs_patchbay_agent(&kata.network("del-route", &direct), "lacks deleting routes");
    let with_metric = json!([{"dest": "10.9.0.0/16", "device": "eth-kata", "metric": 7}]);
    assert_needs_patchbay_agent(
        &kata.network("add-route", &with_metric),
        "lacks 'metric' of routes",
    );
    let mtu = kata.network("update-iface", &json!({"name": "eth-kata", "mtu": 1300}));
    assert_needs_patchbay_agent(&mtu, "keep its routes");
    assert_eq!(kata.routes(), both);
    let listed = run(&mut kata.command(&["kata-network", "list-routes", "x"]), "");
    assert!(
        listed
            .err
            .contains("each route with a gateway as a default route"),
        "{listed}"
    );

    // The same guest with an agent that replaces what it finds.
    kata.serve("3.12.0");
    assert_needs_patchbay_agent(
        &kata.network("add-route", &via),
        "lacks adding routes to present ones",
    );
    kata.network("update-routes", &via).ok();
    assert_eq!(kata.routes(), "10.8.0.0/16 via 172.16.0.1 dev eth-kata \n");
    kata.network("update-routes", &json!([])).ok();
    assert_eq!(kata.routes(), "");
    kata.network("add-route", &direct).ok();
    assert_eq!(kata.routes(), "10.7.0.0/16 dev eth-kata scope link \n");
    kata.network("update-routes", &json!([])).ok();
    let bare = kata.network(
        "update-iface",
        &json!({"name": "eth-kata", "IPAddresses": [{"address": "10.1.0.1", "mask": "24"}]}),
    );
    assert_eq!(bare.status, 0, "{bare}");
    assert_eq!(kata.guest.addresses("eth-kata"), ["10.1.0.1/24"]);
    // It doesn't wait for a card by itself.
    let second = card()
        .device("tap-2")
        .mac("02:00:00:00:00:22")
        .set("name", "eth-two")
        .set("IPAddresses", json!([]));
    kata.plug(&second).ok();
    assert_eq!(kata.guest.ip("link show eth-two")[0]["mtu"], 1400);
    kata.network("add-iface", &json!([]))
        .assert_null_error(Kind::Invalid, "");
}
