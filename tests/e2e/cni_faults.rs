//! `patchbay-cni` with machines that don't answer, foreign cards, and kills.

use std::cell::RefCell;
use std::process::Command;

use patchbay_tests::{Cni, Guest, Machine, Pod, peak_memory, rng, run};
use serde_json::{Value, json};

use crate::kill_anywhere::{Outside, sweep};

/// Limit for the plugin, in KiB. Multus and the plugins that it runs have 50 MiB together.
const MAX_MEMORY: u64 = 8 << 10;
const MAC: &str = "02:42:20:6f:a3:69";

/// Adds the link of a plugin before patchbay's.
fn add_link(guest: &Guest) {
    for words in [
        &format!("link add net1 address {MAC} mtu 1400 type veth peer peer1"),
        "link set net1 up",
        "link set peer1 up",
        "addr add 172.16.0.3/16 dev net1",
        "addr add fd00::3/64 dev net1 nodad",
        "route add 10.2.0.0/16 via 172.16.0.1",
    ] {
        guest.netns().ip(words).ok();
    }
}

/// Returns the configuration with the result of that plugin.
fn config(timeout: u64) -> String {
    let interface = json!({"name": "net1", "mac": MAC, "sandbox": "/run/netns/a"});
    let result = json!({"cniVersion": "1.0.0", "interfaces": [interface]});
    let mut config = Cni::patchbay();
    config["cniVersion"] = json!("1.0.0");
    config["name"] = json!("blue");
    config["timeout"] = json!(timeout);
    config["prevResult"] = result;
    config.to_string()
}

fn code(out: &str) -> u64 {
    let error: Value = serde_json::from_str(out).unwrap();
    error["code"].as_u64().unwrap()
}

#[test]
fn machine_that_is_silent_gets_no_card() {
    let guest = Guest::start(Machine::Q35);
    let cni = Cni::new(guest.run_dir());
    let pod = Pod::of(&guest, "net1");
    add_link(&guest);
    let before = Outside::of(&guest);
    guest.monitor().run("stop", json!({}));
    let done = run(&mut cni.plugin("ADD", &pod), &config(1));
    assert_eq!(code(&done.out), 11, "{done}");
    // The runtime removes what failed.
    run(&mut cni.plugin("DEL", &pod), &config(1)).ok();
    guest.resume();
    assert_eq!(Outside::of(&guest), before);
    assert!(peak_memory(&cni.plugin("ADD", &pod), &config(60)) <= MAX_MEMORY);
    guest.exec("ip link show net1").ok();
    run(&mut cni.plugin("DEL", &pod), &config(60)).ok();
    assert_eq!(Outside::of(&guest).devices, before.devices);
}

#[test]
fn machine_that_is_starting_gets_card() {
    let guest = Guest::start(Machine::Q35);
    let cni = Cni::new(guest.run_dir());
    let pod = Pod::of(&guest, "net1");
    add_link(&guest);
    let before = guest.boots();
    guest.begin_reset();
    run(&mut cni.plugin("ADD", &pod), &config(120)).ok();
    assert_eq!(guest.boots(), before + 1);
    let inside = guest.exec("ip -o addr show net1").ok();
    assert!(inside.contains("172.16.0.3/16"), "{inside}");
}

/// Kata has taken the link over.
#[test]
fn link_with_card_of_another_program_is_left_alone() {
    let device = format!("virtio-net-pci,netdev=boot,addr=0x1c,mac={MAC}");
    let words = ["-netdev", "user,id=boot,restrict=on", "-device", &device];
    let words = words.map(|word| ["--extra-qemu-arg", word]).concat();
    let guest = Guest::start_with(Machine::Q35, &words);
    let cni = Cni::new(guest.run_dir());
    let pod = Pod::of(&guest, "net1");
    add_link(&guest);
    let before = Outside::of(&guest);
    let done = run(&mut cni.plugin("ADD", &pod), &config(60));
    let message = format!("a card of another program with the MAC address {MAC} of net1");
    assert!(done.err.contains(&message), "{done}");
    done.ok();
    assert_eq!(Outside::of(&guest), before);
    for command in ["CHECK", "DEL"] {
        run(&mut cni.plugin(command, &pod), &config(60)).ok();
    }
    assert_eq!(Outside::of(&guest), before);
}

/// Sweeps over an operation. A random next one follows each kill.
fn sweep_operation(command: &str, opposite: &str) {
    let rng = RefCell::new(rng());
    let guest = Guest::start(Machine::Q35);
    let cni = Cni::new(guest.run_dir());
    let pod = Pod::of(&guest, "net1");
    add_link(&guest);
    let operate = |command: &str| drop(run(&mut cni.plugin(command, &pod), &config(60)).ok());
    operate("ADD");
    let attached = Outside::of(&guest);
    operate("DEL");
    let detached = Outside::of(&guest);
    let converge = || {
        let is_add = rng.borrow_mut().u64(..2) == 0;
        operate(if is_add { "ADD" } else { "DEL" });
        let expected = if is_add { &attached } else { &detached };
        assert_eq!(Outside::of(&guest), *expected);
        let inside = guest.exec("ip -o addr show net1").out;
        assert_eq!(inside.contains("172.16.0.3/16"), is_add, "{inside}");
    };
    let plugin: Command = cni.plugin(command, &pod);
    sweep(
        &rng,
        &[(&plugin, &config(60))],
        || operate(opposite),
        converge,
    );
}

#[test]
fn add_killed_is_done_or_undone() {
    sweep_operation("ADD", "DEL");
}

#[test]
fn del_killed_is_done_or_undone() {
    sweep_operation("DEL", "ADD");
}
