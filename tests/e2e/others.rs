//! Programs in the guest that change the same card.

use patchbay_tests::{Card, Done, Guest, Machine, await_value};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

fn update(guest: &Guest, name: &str, addresses: &[&str]) -> Done {
    let address = |text: &&str| {
        let (address, mask) = text.split_once('/').unwrap();
        json!({"address": address, "mask": mask})
    };
    let addresses: Vec<Value> = addresses.iter().map(address).collect();
    let document = json!({"name": name, "IPAddresses": addresses});
    guest.kata_network("update-iface", &document.to_string())
}

/// Returns the addresses of an interface as iproute2 shows them, without the seconds that are left and
/// without those that the kernel makes.
fn shown(guest: &Guest, name: &str) -> Vec<String> {
    let shown = guest.exec(&format!("ip -o addr show dev {name}")).ok();
    let word = |word: &str| match word.strip_suffix("sec") {
        Some(_) => "Nsec".to_owned(),
        None => word.to_owned(),
    };
    let line = |line: &str| {
        let words = line.split_whitespace().skip(2).map(word);
        words.collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<_> = shown
        .lines()
        .filter(|line| !line.contains(" fe80::") || line.contains(" nodad "))
        .map(line)
        .collect();
    lines.sort();
    lines
}

#[test]
fn addresses_of_other_programs_are_kept() {
    let guest = Guest::start(Machine::Q35);
    let card = Card::named("eth-test").address("172.16.0.3/16");
    guest.plug(&card).ok();
    let own = "inet 172.16.0.3/16 brd 172.16.255.255 scope global eth-test\\ \
               valid_lft forever preferred_lft forever";
    assert_eq!(shown(&guest, "eth-test"), [own]);
    for line in [
        "172.16.0.50/16 valid_lft 900 preferred_lft 600",
        "172.16.0.51/32",
        "172.16.0.52/16 label eth-test:vip",
        "10.55.0.1 peer 10.55.0.2/32",
        "fd00::50/64 valid_lft 900 preferred_lft 600",
        "fd00::51/64 noprefixroute nodad",
    ] {
        let add = format!("ip addr add {line} dev eth-test");
        guest.exec(&add).ok();
    }
    // Until the end of duplicate address detection.
    await_value(&String::new(), || {
        guest.exec("ip -o addr show tentative").ok()
    });
    let before = shown(&guest, "eth-test");
    assert_eq!(before.len(), 7, "{before:#?}");
    guest.plug(&card).ok();
    assert_eq!(shown(&guest, "eth-test"), before);

    update(&guest, "eth-test", &["172.16.0.9/16", "fe80::9/64"]).ok();
    let (new, link_local) = (own.replace("172.16.0.3", "172.16.0.9"), "inet6 fe80::9/64");
    let mut after = shown(&guest, "eth-test");
    let of_others = |line: &String| {
        !(line.contains("172.16.0.3/") || line.contains("172.16.0.9/") || line.contains(link_local))
    };
    let others = |lines: &[String]| {
        let lines = lines.iter().filter(|line| of_others(line));
        // The first secondary takes the place of the primary.
        let lines = lines.map(|line| line.replace(" secondary", ""));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(others(&after), others(&before));
    after.retain(|line| !of_others(line));
    assert_eq!(after.len(), 2, "{after:#?}");
    assert_eq!(after[0].replace(" secondary", ""), new);
    assert!(after[1].starts_with(link_local), "{after:#?}");
    // The same request again changes nothing.
    let before = shown(&guest, "eth-test");
    update(&guest, "eth-test", &["172.16.0.9/16", "fe80::9/64"]).ok();
    assert_eq!(shown(&guest, "eth-test"), before);
    let listed = guest.kata_network("list-ifaces", "").json()[0]["ip"].take();
    let listed = listed.as_array().unwrap();
    assert!(listed.contains(&json!("fe80::9/64")), "{listed:?}");
    guest
        .plug(&card)
        .assert_null_error(Kind::Exists, "with another address");

    update(&guest, "eth-test", &[]).ok();
    assert_eq!(others(&shown(&guest, "eth-test")), others(&before));
    assert_eq!(shown(&guest, "eth-test").len(), 6);
}

#[test]
fn card_without_addresses_accepts_those_of_other_programs() {
    let guest = Guest::start(Machine::Q35);
    let card = Card::named("eth-test");
    guest.plug(&card).ok();
    // As busybox's DHCP client sets it.
    guest.exec("ip addr add 172.16.0.50/16 dev eth-test").ok();
    guest.plug(&card).ok();
    assert_eq!(shown(&guest, "eth-test").len(), 1);
}

#[test]
fn loopback_keeps_its_addresses_and_mtu() {
    let guest = Guest::start(Machine::Q35);
    guest.exec("ip link set lo up").ok();
    let before = shown(&guest, "lo");
    update(&guest, "lo", &["10.255.0.1/32"]).ok();
    assert_eq!(shown(&guest, "lo").len(), 3);
    update(&guest, "lo", &["::1/64"])
        .assert_null_error(Kind::Exists, "another program in the guest has set ::1/128");
    for mtu in [1000, 1500] {
        let document = json!({"name": "lo", "mtu": mtu}).to_string();
        guest
            .kata_network("update-iface", &document)
            .assert_null_error(Kind::Invalid, "the loopback keeps its mtu of 65536 bytes");
    }
    update(&guest, "lo", &[]).ok();
    assert_eq!(shown(&guest, "lo"), before);
    assert_eq!(guest.ip("link show lo")[0]["mtu"], 65536);
}

/// Starts a program in the guest that runs a command of iproute2 without a pause.
fn keep_running(guest: &Guest, command: &str) {
    let script = format!("(yes '{command}' | ip -force -batch -) >/dev/null 2>&1 </dev/null &");
    guest.shell(&script).ok();
}

#[test]
fn add_iface_of_card_that_is_set_down_is_undone() {
    let guest = Guest::start(Machine::Q35);
    let before = guest.snapshot();
    keep_running(&guest, "link set eth-test down");
    let card = Card::named("eth-test").address("172.16.0.3/16");
    let mut attempts = (0..5).map(|_| {
        let done = guest.plug(&card);
        // The agent has looked just before the other program.
        if done.status == 0 {
            guest.unplug(&card).ok();
        }
        done
    });
    let done = attempts.find(|done| done.status != 0);
    let done = done.expect("the agent has never seen the card down");
    done.assert_null_error(Kind::NotYet, "could not configure the card in the guest");
    let cause = "another program in the guest has changed the interface meanwhile: it is down";
    assert!(done.err.contains(cause), "{done}");
    assert_eq!(guest.snapshot(), before);
}

/// Linux 6.1 renames only a link that is down.
#[test]
fn add_iface_renames_card_that_is_set_up() {
    let guest = Guest::start(Machine::Q35);
    keep_running(&guest, "link set eth0 up");
    for _ in 0..10 {
        let card = Card::named("eth-test").address("172.16.0.3/16");
        guest.plug(&card).ok();
        assert_eq!(shown(&guest, "eth-test").len(), 1);
        guest.unplug(&card).assert_null();
    }
}
