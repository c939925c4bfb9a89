//! Every place that takes a card: ports and bridges, with ACPI and without, on live guests; and an
//! arm machine without a guest.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use patchbay_tests::{Guest, Machine};
use serde_json::Value;

fn card(number: u32) -> String {
    format!(
        r#"{{"device":"tap{number}","name":"eth{number}","hwAddr":"02:00:00:00:00:0{number}","mtu":1500,
            "IPAddresses":[{{"address":"10.0.{number}.2","mask":"24"}}]}}"#
    )
}

/// Plugs a card, which must come to `place`, sends through it, and unplugs it; how long that took.
fn plug_and_unplug(guest: &Guest, number: u32, place: &str) -> Duration {
    let added = guest.kata_network("add-iface", &card(number)).json();
    assert_eq!(added["pciAddr"], place);
    let address = format!("addr add 10.0.{number}.1/24 dev tap{number}");
    guest.netns().ip(&address).ok();
    let ping = format!("ping -c 1 -W 5 10.0.{number}.2");
    guest.netns().exec(&ping).ok();
    let begun = Instant::now();
    guest.kata_network("del-iface", &card(number)).ok();
    begun.elapsed()
}

fn doctor(guest: &Guest) -> Value {
    guest.patchbay(&["doctor", guest.id(), "--json"]).json()
}

fn with_arguments<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let extra = words.iter();
    extra.flat_map(|word| ["--extra-qemu-arg", word]).collect()
}

#[test]
fn without_acpi_a_root_port_takes_its_time() {
    let native = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off";
    let guest = Guest::start_with(Machine::Q35, &with_arguments(&["-global", native]));
    assert_eq!(doctor(&guest)["machine"]["hotplug"], "native");
    let picture = guest.picture();
    let took = plug_and_unplug(&guest, 1, "01.0/00");
    assert!(
        took > Duration::from_secs(5),
        "{took:?}: that was not native"
    );
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(guest.picture(), picture);
}

#[test]
fn a_card_without_acpi_can_go_as_soon_as_it_has_come() {
    let native = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off";
    let guest = Guest::start_with(Machine::Q35, &with_arguments(&["-global", native]));
    let picture = guest.picture();
    guest.kata_network("add-iface", &card(1)).ok();
    guest.kata_network("del-iface", &card(1)).ok();
    assert_eq!(guest.picture(), picture);
}

/// The bridge as Kata's Go runtime has it, beside one port.
#[test]
fn a_q35_fills_its_port_before_katas_bridge() {
    let bridge = "pci-bridge,bus=pcie.0,addr=0x1d,id=pci-bridge-0,chassis_nr=9,shpc=off,\
                  io-reserve=4k,mem-reserve=1m,pref64-reserve=1m";
    let words = with_arguments(&["-device", bridge]);
    let guest = Guest::start_with(
        Machine::Q35,
        &[&["--ports", "1"], words.as_slice()].concat(),
    );
    let report = doctor(&guest);
    assert_eq!(report["machine"]["hotplug"], "acpi");
    assert_eq!(
        report["machine"]["slots"].to_string(),
        r#"[{"bus":"rp1","free":1},{"bus":"pci-bridge-0","free":31}]"#
    );
    guest.kata_network("add-iface", &card(1)).ok();
    let took = plug_and_unplug(&guest, 2, "1d.0/01");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_bridge_behind_a_port_is_three_steps_deep() {
    let bridge = "pcie-pci-bridge,id=br,bus=rp1,addr=0x0";
    let words = with_arguments(&["-device", bridge]);
    let guest = Guest::start_with(
        Machine::Q35,
        &[&["--ports", "1"], words.as_slice()].concat(),
    );
    let took = plug_and_unplug(&guest, 1, "01.0/00.0/01");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Nothing can take a card behind this bridge, so it is passed over.
#[test]
fn the_root_bus_of_a_pc_takes_what_its_bridge_can_not() {
    let words = with_arguments(&[
        "-global",
        "PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off",
        "-global",
        "pci-bridge.shpc=off",
    ]);
    let guest = Guest::start_with(Machine::Pc, &words);
    let picture = guest.picture();
    let took = plug_and_unplug(&guest, 1, "03");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(guest.picture(), picture);
}
