//! Flags and name of an interface by `nic set` and by documents, judged by `ip` in the guest.

use patchbay_tests::raw_agent::{reply, serve_raw};
use patchbay_tests::{Done, FakeQmp, Guest, Machine, empty_machine, patchbay, run, temp_dir};
use patchbay_types::failure::Kind;
use patchbay_wire::proto::agent::HelloReply;
use serde_json::json;

use super::native::native;

/// Returns whether the kernel has set UP, NOARP and PROMISC.
fn flags(guest: &Guest) -> [bool; 3] {
    let flags = guest.ip("link show eth1")[0]["flags"].clone();
    ["UP", "NOARP", "PROMISC"].map(|flag| flags.as_array().unwrap().contains(&json!(flag)))
}

fn set(guest: &Guest, words: &str) -> Done {
    native(guest, &format!("nic set ID --name eth1 {words}"))
}

fn ping(guest: &Guest) -> i32 {
    guest.netns().exec("ping -c 1 -W 2 10.0.0.2").status
}

const ADDRESSES: [&str; 2] = ["10.0.0.2/24", "fd00::2/64"];

/// Starts a guest with the card `eth1`, whose TAP has the address 10.0.0.1.
fn guest_with_card() -> Guest {
    let guest = Guest::start(Machine::Q35);
    guest.netns().ip("tuntap add tap1 mode tap").ok();
    guest.netns().ip("addr add 10.0.0.1/24 dev tap1").ok();
    let [v4, v6] = ADDRESSES;
    let add = format!("nic add ID eth1 --tap tap1 --ip {v4} --ip {v6}");
    native(&guest, &add).ok();
    guest
}

#[test]
fn nic_set_changes_flags_in_the_guest() {
    let guest = guest_with_card();
    native(
        &guest,
        "route add ID --dest 10.9.0.0/16 --via 10.0.0.1 --dev eth1",
    )
    .ok();
    assert_eq!((flags(&guest), ping(&guest)), ([true, false, false], 0));
    state_costs_routes_and_no_addresses(&guest);
    flags_are_listed(&guest);
    flags_survive_a_restart_of_the_guest(&guest);
    documents_have_flags(&guest);
    refusals_change_nothing(&guest);
}

fn state_costs_routes_and_no_addresses(guest: &Guest) {
    let changed = set(guest, "--state down").json();
    assert_eq!(changed, json!({"name": "eth1", "up": false}));
    assert_eq!(flags(guest), [false, false, false]);
    assert_eq!(guest.addresses("eth1"), ADDRESSES);
    assert_eq!(guest.exec("ip route show dev eth1").out, "");
    assert_ne!(ping(guest), 0);
    // The same again, and another setting meanwhile.
    set(guest, "--state down --mtu 1400").ok();
    assert_eq!(guest.ip("link show eth1")[0]["mtu"], 1400);
    set(guest, "--state up").ok();
    assert_eq!((flags(guest), ping(guest)), ([true, false, false], 0));
    assert_eq!(guest.addresses("eth1"), ADDRESSES);
    let routes = guest.exec("ip route show dev eth1").ok();
    assert!(
        routes.contains("10.0.0.0/24") && !routes.contains("10.9.0.0/16"),
        "{routes}"
    );
}

fn flags_are_listed(guest: &Guest) {
    let changed = set(guest, "--arp off --promisc on").json();
    assert_eq!(
        changed,
        json!({"name": "eth1", "arp": false, "promisc": true})
    );
    assert_eq!(flags(guest), [true, true, true]);
    for words in ["nic show ID eth1", "nic list ID"] {
        let shown = native(guest, words).json();
        let card = shown.get(0).unwrap_or(&shown);
        assert_eq!(card["up"], true, "{shown}");
        assert_eq!(
            (&card["arp"], &card["promisc"]),
            (&json!(false), &json!(true)),
            "{shown}"
        );
    }
}

fn flags_survive_a_restart_of_the_guest(guest: &Guest) {
    set(guest, "--state down").ok();
    guest.reset();
    let listed = native(guest, "nic list ID").json();
    let lost = "not configured since the guest's restart";
    assert_eq!(listed[0]["state"], lost, "{listed}");
    native(guest, "nic apply ID --name eth1").ok();
    assert_eq!(flags(guest), [false, true, true]);
    assert_eq!(guest.addresses("eth1"), ADDRESSES);
    set(guest, "--state up --arp on --promisc off").ok();
    assert_eq!((flags(guest), ping(guest)), ([true, false, false], 0));
}

fn documents_have_flags(guest: &Guest) {
    let document = |words: &[&str], text: &str| run(&mut patchbay(guest.run_dir(), words), text);
    let export = || document(&["export", guest.id()], "").ok();
    let diff = |text: &str| document(&["diff", guest.id(), "-"], text);
    let apply = |text: &str| document(&["apply", guest.id(), "-"], text);
    let up = export();
    set(guest, "--state down --promisc on --arp off").ok();
    let down = export();
    for line in ["up: false", "promisc: true", "rawFlags: 128"] {
        assert!(
            down.contains(line) && !up.contains(line),
            "{line}: {down} {up}"
        );
    }
    assert_eq!(diff(&down).out, "");
    // A card is up by default, and promiscuous mode is kept by default.
    let without: Vec<_> = down
        .lines()
        .filter(|line| !line.contains("up: ") && !line.contains("promisc: "))
        .collect();
    let without = without.join("\n");
    assert_eq!(apply(&without).ok(), "~ interface eth1: up\n");
    assert_eq!(flags(guest), [true, true, true]);
    let off = down
        .replace("up: false", "up: true")
        .replace("promisc: true", "promisc: false");
    assert_eq!(apply(&off).ok(), "~ interface eth1: promisc off\n");
    assert_eq!(flags(guest), [true, true, false]);
    assert_eq!(apply(&down).ok(), "~ interface eth1: down promisc on\n");
    assert_eq!(flags(guest), [false, true, true]);
    // The guest itself changes them.
    guest.exec("ip link set eth1 up promisc off").ok();
    assert_eq!(
        diff(&down).out,
        "~ interface eth1: the guest has set it up\n"
    );
    apply(&down).ok();
    assert_eq!(flags(guest), [false, true, true]);
    set(guest, "--state up --promisc off --arp on").ok();
}

fn refusals_change_nothing(guest: &Guest) {
    for (words, message) in [
        ("--state sideways", "'sideways'"),
        ("--promisc up", "'up'"),
        ("--state down --cable down", "cannot be used with"),
    ] {
        set(guest, words).assert_error(Kind::Invalid, message);
    }
    native(guest, "nic set ID --name eth9 --state down").assert_error(Kind::NotFound, "eth9");
    // The guest's kernel refuses the address after it has set the rest.
    let before = guest.exec("ip -o addr show dev eth1").ok();
    let refused = set(
        guest,
        "--state down --arp off --promisc on --mtu 1300 --ip ::1/128",
    );
    assert!(
        refused.err.contains("could not add the address ::1/128"),
        "{refused}"
    );
    assert_eq!(flags(guest), [true, false, false]);
    assert_eq!(guest.exec("ip -o addr show dev eth1").ok(), before);
    assert_eq!(ping(guest), 0);
}

#[test]
fn nic_set_renames_the_interface() {
    let guest = guest_with_card();
    native(&guest, "nic add ID eth2 --tap tap2").ok();
    let gateway = "--via 10.0.0.1 --dev eth1";
    native(
        &guest,
        &format!("route add ID --dest 10.9.0.0/16 {gateway}"),
    )
    .ok();
    let changed = set(&guest, "--rename wan0 --mtu 1400").json();
    assert_eq!(
        changed,
        json!({"name": "eth1", "mtu": 1400, "guestName": "wan0"})
    );
    let routes = guest.exec("ip route show dev wan0").ok();
    assert!(routes.contains("10.9.0.0/16 via 10.0.0.1"), "{routes}");
    assert_eq!(guest.ip("link show wan0")[0]["mtu"], 1400);
    assert_eq!(guest.netns().ip("-j link show tap1").json()[0]["mtu"], 1400);
    names_are_listed_and_found(&guest);
    taken_names_are_refused(&guest);
    guest.reset();
    native(&guest, "nic apply ID --name eth1").ok();
    assert_eq!(guest.addresses("wan0"), ADDRESSES);
    // After a restart, too, a document has the plugged name.
    let export = guest.patchbay(&["export", guest.id()]).ok();
    assert!(!export.contains("wan0"), "{export}");
    // The guest's kernel can have given the name to the other card.
    native(&guest, "nic apply ID --name eth2").ok();
    native(&guest, "nic set ID --name wan0 --rename eth1").ok();
    assert_eq!(guest.addresses("eth1"), ADDRESSES);
    let listed = native(&guest, "nic list ID").json();
    assert_eq!(listed[0]["guestName"], serde_json::Value::Null, "{listed}");
    native(&guest, "nic del ID --name eth1").ok();
}

fn names_are_listed_and_found(guest: &Guest) {
    let shown = native(guest, "nic show ID wan0").json();
    assert_eq!(
        (&shown["name"], &shown["guestName"]),
        (&json!("eth1"), &json!("wan0"))
    );
    native(
        guest,
        "route add ID --dest 10.8.0.0/16 --via 10.0.0.1 --dev eth1",
    )
    .ok();
    let routes = guest.exec("ip route show dev wan0").ok();
    assert!(routes.contains("10.8.0.0/16"), "{routes}");
    let document = guest.patchbay(&["export", guest.id()]).ok();
    let mut diff = patchbay(guest.run_dir(), &["diff", guest.id(), "-"]);
    assert_eq!(run(&mut diff, &document).out, "");
}

fn taken_names_are_refused(guest: &Guest) {
    for (name, new, message) in [
        ("eth1", "lo", "the name lo is taken by another interface"),
        ("wan0", "eth2", "'eth2' is that under which another card"),
        ("eth2", "eth1", "'eth1' is that under which another card"),
        ("eth2", "wan0", "the name wan0 is taken"),
    ] {
        native(guest, &format!("nic set ID --name {name} --rename {new}"))
            .assert_error(Kind::Exists, message);
    }
    set(guest, "--rename 0wan").assert_error(Kind::Invalid, "'0wan'");
    assert_eq!(guest.addresses("wan0"), ADDRESSES);
    // The address is refused after the interface is renamed.
    let refused = set(guest, "--rename lan0 --mtu 1300 --ip ::1/128");
    let message = "could not add the address ::1/128";
    assert!(refused.err.contains(message), "{refused}");
    assert_eq!(guest.ip("link show wan0")[0]["mtu"], 1400);
    assert_eq!(guest.netns().ip("-j link show tap1").json()[0]["mtu"], 1400);
}

#[test]
fn nic_set_flags_of_an_older_agent_is_refused() {
    let dir = temp_dir();
    let socket = dir.path().join("agent.sock");
    // It ends the connection at any other call.
    serve_raw(&socket, |request| {
        let message = HelloReply {
            api_version: patchbay_wire::API_VERSION,
            features: vec!["interfaces".to_owned(), "places".to_owned()],
            ..HelloReply::default()
        };
        assert_eq!(request.method, "Hello");
        Some(Box::new(std::iter::once(reply(request, &message))))
    });
    let qmp = dir.path().join("qmp.sock");
    let _monitor = FakeQmp::serve(&qmp, |request| Some(empty_machine(request)));
    let agent = format!("unix://{}", socket.display());
    for (option, feature) in [
        (["--state", "down"], "link-flags"),
        (["--arp", "off"], "link-flags"),
        (["--promisc", "on"], "link-flags"),
        (["--rename", "wan0"], "rename"),
    ] {
        let mut command = patchbay(dir.path(), &["--agent", &agent, "--qmp"]);
        let set = ["nic", "set", "x", "--name", "eth1"];
        let done = run(command.arg(&qmp).args(set).args(option), "");
        let message = format!("lacks the feature '{feature}'");
        done.assert_error(Kind::Unsupported, &message);
    }
}
