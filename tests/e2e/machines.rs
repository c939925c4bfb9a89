//! Slots for cards: ports and bridges, with and without ACPI hot-plug, on live guests, and on an arm
//! machine without a guest.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use patchbay_tests::{
    Card, Configure, FakeAgent, Guest, Machine, Monitor, Netns, patchbay, run, temp_dir,
};
use patchbay_types::failure::{Failure, Kind};
use serde_json::{Value, json};

use crate::removal::NATIVE;

fn card(number: usize) -> Card {
    Card::numbered(number).address(&format!("10.0.{number}.2/24"))
}

/// Plugs a card, asserts its PCI path, pings through it and unplugs it; returns the duration of the
/// unplug.
fn plug_and_unplug(guest: &Guest, number: usize, pci_path: &str) -> Duration {
    let added = guest.plug(&card(number)).json();
    assert_eq!(added["pciAddr"], pci_path);
    let address = format!("addr add 10.0.{number}.1/24 dev tap{number}");
    guest.netns().ip(&address).ok();
    let ping = format!("ping -c 1 -W 5 10.0.{number}.2");
    guest.netns().exec(&ping).ok();
    let begun = Instant::now();
    guest.unplug(&card(number)).ok();
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
fn unplug_without_acpi_uses_native_hotplug() {
    let guest = Guest::start_with(Machine::Q35, &NATIVE);
    assert_eq!(doctor(&guest)["machine"]["hotplug"], "native");
    let snapshot = guest.snapshot();
    let took = plug_and_unplug(&guest, 1, "01.0/00");
    // The agent powers the slot off.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(guest.snapshot(), snapshot);
    // An agent without the feature 'release'.
    guest.plug(&card(1)).ok();
    let socket = guest.file("fake.sock");
    let refuse = Configure::Refuse(Failure::new(Kind::Kernel, "no"));
    let _agent = FakeAgent::serve(&socket, refuse);
    let mut by_hand = patchbay(guest.run_dir(), &["nic", "del", "x", "--name", "eth1"]);
    by_hand.args(["--agent", &format!("unix://{}", socket.display()), "--qmp"]);
    let begun = Instant::now();
    run(by_hand.arg(guest.file("qmp.sock")), "").ok();
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(5),
        "{took:?}: that was not native"
    );
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(guest.snapshot(), snapshot);
    // An unplug right after the plug.
    guest.plug(&card(1)).ok();
    guest.unplug(&card(1)).ok();
    assert_eq!(guest.snapshot(), snapshot);
}

/// A bridge with the properties of Kata's Go runtime, beside one root port.
#[test]
fn q35_fills_root_port_before_kata_bridge() {
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
    guest.plug(&card(1)).ok();
    let took = plug_and_unplug(&guest, 2, "1d.0/01");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn plug_behind_pcie_pci_bridge() {
    let bridge = "pcie-pci-bridge,id=br,bus=rp1,addr=0x0";
    let words = with_arguments(&["-device", bridge]);
    let guest = Guest::start_with(
        Machine::Q35,
        &[&["--ports", "1"], words.as_slice()].concat(),
    );
    let took = plug_and_unplug(&guest, 1, "01.0/00.0/01");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// The bridge has neither ACPI nor SHPC hot-plug, so the root bus is used.
#[test]
fn pc_without_bridge_hotplug_uses_root_bus() {
    let words = with_arguments(&[
        "-global",
        "PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off",
        "-global",
        "pci-bridge.shpc=off",
    ]);
    let guest = Guest::start_with(Machine::Pc, &words);
    let snapshot = guest.snapshot();
    let took = plug_and_unplug(&guest, 1, "03");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(guest.snapshot(), snapshot);
}

/// An arm machine whose CPU waits for interrupts that don't arrive, killed when it is dropped.
struct Arm(Child);

impl Arm {
    fn start(qmp: &Path) -> Self {
        let listener = format!("unix:{},server=on,wait=off", qmp.display());
        let mut command = Command::new("qemu-system-aarch64");
        command.args(["-machine", "virt", "-cpu", "cortex-a57", "-m", "64"]);
        // The instructions `wfi` and `b .-4` at the start of the memory.
        let code = "loader,addr=0x40000000,data=0x17ffffffd503207f,data-len=8";
        command.args([
            "-device",
            code,
            "-device",
            "loader,addr=0x40000000,cpu-num=0",
        ]);
        command.args(["-nodefaults", "-display", "none", "-qmp", &listener]);
        for device in [
            "pcie-root-port,id=rp1,bus=pcie.0,addr=0x1,chassis=1",
            "pcie-root-port,id=rp2,bus=pcie.0,addr=0x2,chassis=2,hotplug=off",
            "pci-bridge,id=br,bus=pcie.0,addr=0x3,chassis_nr=3",
        ] {
            command.args(["-device", device]);
        }
        let arm = Self(command.stdin(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(qmp).is_err() {
            assert!(Instant::now() < deadline, "{} is not served", qmp.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        arm
    }
}

impl Drop for Arm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Without a guest, a fake agent records the PCI path it receives.
#[test]
fn arm_fills_root_port_before_bridge() {
    let (dir, netns) = (temp_dir(), Netns::new());
    let (qmp, socket) = (dir.path().join("qmp.sock"), dir.path().join("agent.sock"));
    let _arm = Arm::start(&qmp);
    let refuse = Configure::Refuse(Failure::new(Kind::Kernel, "no guest"));
    let agent = FakeAgent::serve(&socket, refuse);
    let agent_url = format!("unix://{}", socket.display());
    let by_hand = |words: &[&str], input: &str| {
        let mut command = patchbay(dir.path(), words);
        command.arg("--qmp").arg(&qmp).args(["--agent", &agent_url]);
        run(command.args(["--netns", netns.name()]), input)
    };

    let report = by_hand(&["doctor", "arm", "--json"], "").json();
    let machine = &report["machine"];
    assert!(machine["type"].as_str().unwrap().starts_with("virt-"));
    assert_eq!(machine["state"], "running");
    assert_eq!(machine["hotplug"], "native");
    assert_eq!(machine["sharedMemory"], false);
    let slots = json!([{"bus": "rp1", "free": 1}, {"bus": "br", "free": 31}]);
    assert_eq!(machine["slots"], slots);

    let devices = || Monitor::connect(&qmp).devices();
    let before = devices();
    // Slot 1; then, while another card is in the port, slot 3 and in there 1.
    for (path, occupied) in [(vec![1 << 3, 0], false), (vec![3 << 3, 1 << 3], true)] {
        if occupied {
            let card =
                json!({"driver": "virtio-net-pci", "id": "other", "bus": "rp1", "addr": "0x0"});
            Monitor::connect(&qmp).run("device_add", card);
        }
        let done = by_hand(&["kata-network", "add-iface", "arm", "-"], &card(1).json());
        assert_eq!(done.status, i32::from(Kind::Kernel.exit_code()), "{done}");
        assert!(done.err.contains("no guest"), "{done}");
        assert_eq!(agent.next_request().pci_path, path);
    }
    Monitor::connect(&qmp).run("device_del", json!({"id": "other"}));
    assert_eq!(devices(), before);
    assert_eq!(netns.links(), Vec::<String>::new());
}
