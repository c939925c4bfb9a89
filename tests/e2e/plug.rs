//! A card from plug to unplug on a live guest, checked by the guest's programs.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::process::Command;

use patchbay_tests::{Card, Guest, Machine, bin, guide_card, run, traffic};
use serde_json::json;

/// The guide's examples with their printed output. `pci_path` is that of the first card.
pub(crate) fn guide_examples(guest: &Guest, pci_path: &str) {
    // The incumbent's scripts call the program by this name.
    let kata_runtime = guest.file("kata-runtime");
    symlink(bin("patchbay"), &kata_runtime).unwrap();
    let net_json = guest.file("net.json");
    let document = r#"{"device":"tap_test","name":"eth-test","IPAddresses":[{"Address":"173.85.100.1","Mask":"24"}],"hwAddr":"02:42:20:6e:03:01","mtu":1500}"#;
    std::fs::write(&net_json, document).unwrap();
    let kata = |command: &str, file: &[&str], input: &str| {
        let mut words = Command::new(&kata_runtime);
        words.env("PATCHBAY_RUN_DIR", guest.run_dir());
        // The guide truncates the ID.
        words.args(["kata-network", command, "6ec7a98"]).args(file);
        run(&mut words, input)
    };
    let file = net_json.to_str().unwrap();

    kata("list-ifaces", &[], "").assert_null();
    assert_eq!(
        kata("add-iface", &[file], "").ok(),
        format!(
            "{{\"device\":\"tap_test\",\"name\":\"eth-test\",\"IPAddresses\":[{{\"Family\":2,\
             \"Address\":\"173.85.100.1\",\"Mask\":\"24\"}}],\"mtu\":1500,\
             \"hwAddr\":\"02:42:20:6e:03:01\",\"pciAddr\":\"{pci_path}\"}}\n"
        )
    );
    kata("del-iface", &[file], "").assert_null();
    kata("list-ifaces", &[], "").assert_null();

    kata("add-iface", &["-"], &guide_card()).ok();
    let first =
        r#"{"name":"eth-test","mac":"02:42:20:6f:a3:69","ip":["172.16.0.3/16"],"mtu":1500}"#;
    assert_eq!(kata("list-ifaces", &[], "").ok(), format!("[{first}]\n"));
    assert_eq!(
        guest.exec("ip route").ok().trim_end(),
        "172.16.0.0/16 dev eth-test proto kernel scope link src 172.16.0.3"
    );
    let two = r#"{"device":"tap2","name":"container_eth_2","IPAddresses":[{"address":"192.168.0.34","mask":"24"}],"hwAddr":"02:90:50:6b:a2:29","mtu":1500}"#;
    kata("add-iface", &["-"], two).ok();
    let second = r#"{"name":"container_eth_2","mac":"02:90:50:6b:a2:29","ip":["192.168.0.34/24"],"mtu":1500}"#;
    assert_eq!(
        kata("list-ifaces", &[], "").ok(),
        format!("[{first},{second}]\n")
    );
    kata("del-iface", &["-"], &guide_card()).assert_null();
    assert_eq!(kata("list-ifaces", &[], "").ok(), format!("[{second}]\n"));
    kata("del-iface", &["-"], two).assert_null();

    let bad = kata("add-iface", &["-"], r#"{"device":"tap_test"}"#);
    assert_eq!((bad.status, bad.out.as_str()), (2, "null\n"), "{bad}");
}

#[test]
fn guide_examples_work_on_q35() {
    let guest = Guest::start(Machine::Q35);
    guide_examples(&guest, "01.0/00");
    add_iface_twice_is_idempotent_or_refused(&guest);
    add_iface_takes_several_addresses(&guest);
}

#[test]
fn guide_examples_work_on_pc() {
    let guest = Guest::start(Machine::Pc);
    guide_examples(&guest, "02.0/01");
    existing_tap_is_used_and_restored(&guest);
}

/// Asserts the state of the guide's card in iproute2 and ethtool.
fn assert_guide_card(guest: &Guest) {
    let link = guest.ip("link show eth-test")[0].take();
    assert_eq!(link["address"], "02:42:20:6f:a3:69");
    assert_eq!(link["mtu"], 1500);
    let flags = link["flags"].as_array().unwrap();
    assert!(
        flags.contains(&"UP".into()) && flags.contains(&"LOWER_UP".into()),
        "{link}"
    );
    assert_eq!(link["num_tx_queues"], 5);
    let addresses = guest.ip("-4 addr show eth-test")[0]["addr_info"].take();
    assert_eq!(addresses.as_array().unwrap().len(), 1);
    assert_eq!(addresses[0]["local"], "172.16.0.3");
    assert_eq!(addresses[0]["prefixlen"], 16);
    let routes = guest.ip("route show");
    assert_eq!(routes.as_array().unwrap().len(), 1);
    assert_eq!(routes[0]["dst"], "172.16.0.0/16");
    assert_eq!(routes[0]["prefsrc"], "172.16.0.3");
    assert_eq!(combined(guest, "eth-test"), (5, 5));
}

/// Returns the maximum and current number of combined channels.
fn combined(guest: &Guest, name: &str) -> (u32, u32) {
    let shown = guest.exec(&format!("ethtool -l {name}")).ok();
    let numbers: Vec<u32> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("Combined:")?.trim().parse().ok())
        .collect();
    (numbers[0], numbers[1])
}

#[test]
fn card_with_five_queues_carries_traffic() {
    let guest = Guest::start(Machine::Q35);
    guest.kata_network("add-iface", &guide_card()).ok();
    assert_guide_card(&guest);
    guest.netns().ip("addr add 172.16.0.1/16 dev tap-test").ok();
    guest.netns().exec("ping -c 3 -W 5 172.16.0.3").ok();
    guest.exec("ping -c 3 -W 5 172.16.0.1").ok();
    let echo: SocketAddr = "172.16.0.3:7".parse().unwrap();
    let (sent, received) = traffic::echo(guest.netns(), echo, 100 << 20);
    assert_eq!(sent, received);
    guest.kata_network("del-iface", &guide_card()).assert_null();
}

#[test]
fn plug_unplug_50_times_leaves_nothing() {
    let guest = Guest::start(Machine::Q35);
    // The first card leaves QEMU with more descriptors permanently.
    guest.kata_network("add-iface", &guide_card()).ok();
    guest.kata_network("del-iface", &guide_card()).assert_null();
    let (snapshot, descriptors) = (guest.snapshot(), guest.qemu_descriptors());
    for _ in 0..50 {
        guest.kata_network("add-iface", &guide_card()).ok();
        assert_ne!(guest.netns().links(), Vec::<String>::new());
        guest.kata_network("del-iface", &guide_card()).assert_null();
    }
    assert_eq!(guest.snapshot(), snapshot);
    assert_eq!(guest.qemu_descriptors(), descriptors);
}

fn existing_tap_is_used_and_restored(guest: &Guest) {
    let plain = guide_card()
        .replace(",\n    \"queues\":5", "")
        .replace("1500", "1400");
    let many = guide_card().replace("\"queues\":5", "\"queues\":2");
    for (mode, document, queues) in [
        ("", &plain, 1),
        ("multi_queue", &plain, 1),
        ("multi_queue", &many, 2),
    ] {
        guest
            .netns()
            .ip(&format!("tuntap add tap-test mode tap {mode}"))
            .ok();
        let before = guest.netns().ip("-d link show tap-test").ok();
        guest.kata_network("add-iface", document).ok();
        assert_eq!(combined(guest, "eth-test").1, queues);
        guest.netns().ip("addr add 172.16.0.1/16 dev tap-test").ok();
        guest.netns().exec("ping -c 1 -W 5 172.16.0.3").ok();
        guest.kata_network("del-iface", document).assert_null();
        // Immediately again, while the kernel's state of the TAP can still be stale.
        guest.kata_network("add-iface", document).ok();
        guest.kata_network("del-iface", document).assert_null();
        let after = guest.netns().ip("-d link show tap-test").ok();
        // An opened TAP also shows a carrier state and a queueing discipline.
        let lines = |text: &str| {
            (
                text.contains("mtu 1500"),
                text.contains(",UP"),
                text.contains(mode),
            )
        };
        assert_eq!(lines(&after), lines(&before), "{before}{after}");
        guest.netns().ip("link del tap-test").ok();
    }
}

fn add_iface_twice_is_idempotent_or_refused(guest: &Guest) {
    let first = guest.kata_network("add-iface", &guide_card()).ok();
    let snapshot = guest.snapshot();
    // The output is valid input.
    assert_eq!(guest.kata_network("add-iface", &first).ok(), first);
    assert_eq!(guest.kata_network("add-iface", &guide_card()).ok(), first);
    for (from, to, what) in [
        ("tap-test", "tap-other", "another device"),
        ("a3:69", "a3:6a", "another hwAddr"),
        ("1500", "1400", "another mtu"),
        ("\"16\"", "\"24\"", "another address"),
        ("\"queues\":5", "\"queues\":4", "another number of queues"),
        ("eth-test", "eth-test2", "belongs to the card"),
    ] {
        let done = guest.kata_network("add-iface", &guide_card().replace(from, to));
        assert_eq!(
            (done.status, done.out.as_str()),
            (4, "null\n"),
            "{what}: {done}"
        );
        assert!(done.err.contains(what), "{what}: {done}");
    }
    assert_eq!(guest.snapshot(), snapshot);
    guest.kata_network("del-iface", &guide_card()).assert_null();
}

fn add_iface_takes_several_addresses(guest: &Guest) {
    let addresses = json!([
        {"address": "10.1.0.2", "mask": "24"},
        {"address": "10.2.0.2", "mask": "24"},
        {"address": "fd00:6::2", "mask": "64", "Family": 10},
    ]);
    let card = Card::named("eth6").mac("02-00-00-00-00-06");
    guest.plug(&card.set("IPAddresses", addresses)).ok();
    let listed = guest.kata_network("list-ifaces", "").json();
    assert_eq!(listed[0]["mac"], "02:00:00:00:00:06");
    assert_eq!(
        listed[0]["ip"].to_string(),
        r#"["10.1.0.2/24","10.2.0.2/24","fd00:6::2/64"]"#
    );
    guest
        .netns()
        .ip("addr add fd00:6::1/64 dev tap6 nodad")
        .ok();
    guest.netns().exec("ping -c 1 -W 5 fd00:6::2").ok();
}

#[test]
fn plug_fills_every_port() {
    let guest = Guest::start_with(Machine::Q35, &["--ports", "3"]);
    for number in 1..=3 {
        let added = guest.plug(&Card::numbered(number)).json();
        assert_eq!(added["pciAddr"], format!("0{number}.0/00"));
    }
    let snapshot = guest.snapshot();
    let full = guest.plug(&Card::numbered(4));
    assert_eq!((full.status, full.out.as_str()), (7, "null\n"), "{full}");
    assert!(full.err.contains("pcie-root-port"), "{full}");
    assert_eq!(guest.snapshot(), snapshot);
    guest.unplug(&Card::numbered(2)).assert_null();
    let added = guest.plug(&Card::numbered(4)).json();
    assert_eq!(added["pciAddr"], "02.0/00");
}
