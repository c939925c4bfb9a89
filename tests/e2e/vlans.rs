//! VLAN of a card on its bridge, judged by `bridge`.

use std::process::Command;

use patchbay_tests::{Built, Done, Guest, Machine, bin, rng, run, temp_dir};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::kill_anywhere::Outside;
use super::native::native;

#[test]
fn vlan_of_a_port_without_vlans_is_refused() {
    let guest = Guest::start(Machine::Q35);
    guest.netns().ip("tuntap add tap1 mode tap").ok();
    native(&guest, "nic add ID eth1 --tap tap1 --ip 10.0.0.2/24").ok();
    let before = Outside::of(&guest);
    for (vlan, message) in [
        ("0", "'0' is not allowed: a VLAN is a number from 1 to 4094"),
        ("4095", "'4095' is not allowed"),
        ("100", "device 'tap1' is not a port of a bridge"),
    ] {
        let set = format!("nic set ID --name eth1 --vlan {vlan}");
        native(&guest, &set).assert_error(Kind::Invalid, message);
    }
    let set = "nic set ID --name eth1 --cable down --rx-limit 1mbit --vlan 100";
    native(&guest, set).assert_error(Kind::Invalid, "is not a port");
    assert_eq!(Outside::of(&guest), before);
    guest.netns().ip("link add br0 type bridge").ok();
    guest.netns().ip("link set tap1 master br0").ok();
    native(&guest, set).assert_error(
        Kind::Invalid,
        "the bridge of the device 'tap1' must filter VLANs",
    );
    native(&guest, "nic set ID --name eth1 --vlan off").ok();
    let shown = native(&guest, "nic show ID eth1").json();
    assert_eq!(
        (&shown["vlan"], &shown["rxLimit"]),
        (&Value::Null, &Value::Null)
    );
}

/// Guest with Debian's kernel, whose bridges have VLANs, in the place of the host: that of the machine that runs the
/// tests need not have them.
///
/// QEMU runs no guest there. Its monitor serves as that of a machine, whose agent finds a card of the outer
/// machine at the same PCI path.
struct DebianHost {
    guest: Guest,
    _image: TempDir,
}

const MAC: &str = "02:00:00:00:00:01";

/// Without ACPI hot-plug, QEMU unplugs a card that no guest has switched on at once.
const START: &str = "insmod /opt/tun.ko
    qemu-system-x86_64 -nodefaults -display none -machine q35 -accel tcg -m 64 \\
      -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off \\
      -device pcie-root-port,id=rp1,bus=pcie.0,addr=0x1,chassis=1,slot=1 \\
      -qmp unix:/run/qmp.sock,server=on,wait=off >/run/qemu.log 2>&1 &
    patchbay-agent --listen unix:/run/agent.sock >/run/agent.log 2>&1 &
    until [ -S /run/qmp.sock -a -S /run/agent.sock ]; do sleep 0.1; done
    ip link add br0 type bridge vlan_filtering 1
    ip tuntap add tap1 mode tap
    ip link set tap1 master br0
    bridge vlan add dev tap1 vid 5
    bridge vlan add dev tap1 vid 7-8";

impl DebianHost {
    fn start() -> Self {
        let image = temp_dir();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/debian/with-qemu.sh");
        let mut build = Command::new(script);
        build.args([
            Built::ImageDebian.dir(),
            Built::Image.dir(),
            image.path().to_owned(),
        ]);
        build.env("PATCHBAY_BIN_DIR", bin("patchbay").parent().unwrap());
        run(&mut build, "").ok();
        let guest = Guest::start_debian_from(image.path(), "1024", &[]);
        let mut monitor = guest.monitor();
        monitor.run(
            "netdev_add",
            json!({"type": "user", "id": "outer", "restrict": true}),
        );
        let device = json!({"driver": "virtio-net-pci", "netdev": "outer", "id": "outer", "bus": "rp1", "mac": MAC});
        monitor.run("device_add", device);
        guest.exec("udevadm settle").ok();
        guest.shell(START).ok();
        Self {
            guest,
            _image: image,
        }
    }

    fn patchbay(&self, words: &str) -> Done {
        let begin = "patchbay --qmp /run/qmp.sock --agent unix:///run/agent.sock";
        self.guest.exec(&format!("{begin} {words}"))
    }

    /// Returns the VLANs of the TAP, with `u` after one that is untagged and that of untagged frames.
    fn vlans(&self) -> Vec<String> {
        let shown = self.guest.exec("bridge -j vlan show dev tap1").json();
        let vlans = shown[0]["vlans"].as_array().cloned().unwrap_or_default();
        let vlan = |entry: &Value| {
            let flags = entry["flags"].as_array().map_or(0, Vec::len);
            format!("{}{}", entry["vlan"], if flags == 2 { "u" } else { "" })
        };
        vlans.iter().map(vlan).collect()
    }
}

/// VLANs of the TAP before its card.
const BEFORE: [&str; 4] = ["1u", "5", "7", "8"];

#[test]
fn vlan_of_a_port_is_set_repaired_and_restored() {
    let host = DebianHost::start();
    assert_eq!(host.vlans(), BEFORE);
    let add = format!("nic add vm eth1 --tap tap1 --mac {MAC}");
    host.patchbay(&add).ok();
    let set = |words: &str| host.patchbay(&format!("nic set vm --name eth1 {words}"));
    assert_eq!(set("--vlan 100").json()["vlan"], 100);
    assert_eq!(host.vlans(), ["100u"]);
    assert_eq!(host.patchbay("nic show vm eth1").json()["vlan"], 100);
    // The guest has no module for limits.
    set("--vlan 200 --rx-limit 1mbit").assert_error(Kind::Unsupported, "lacks a module (sch_tbf");
    assert_eq!(host.vlans(), ["100u"]);
    set("--vlan 7").ok();
    assert_eq!(host.vlans(), ["7u"]);
    host.guest.exec("bridge vlan add dev tap1 vid 9").ok();
    host.patchbay(&add).ok();
    assert_eq!(host.vlans(), ["7u"]);
    set("--vlan off").ok();
    assert_eq!(host.vlans(), BEFORE);
    set("--vlan 44").ok();
    set("--cable down").ok();
    assert_eq!(host.vlans(), ["44u"]);
    host.patchbay("nic del vm --name eth1").ok();
    assert_eq!(host.vlans(), BEFORE);
    // The outer machine still has its card.
    host.guest
        .shell("ip link set eth1 down; ip link set eth1 name old")
        .ok();
    host.patchbay(&add).ok();
    assert_eq!(host.vlans(), BEFORE);
    killed_change_is_undone(&host);
    set("--vlan 30").ok();
    bridge_made_anew_gets_the_vlan(&host);
    other_settings_change_without_vlans(&host);
}

/// Kills commands at random.
fn killed_change_is_undone(host: &DebianHost) {
    let patchbay = "patchbay --qmp /run/qmp.sock --agent unix:///run/agent.sock";
    for _ in 0..8 {
        host.patchbay("nic set vm --name eth1 --vlan 20").ok();
        let after = rng().u32(20..900);
        let set = format!(
            "{patchbay} nic set vm --name eth1 --vlan 21 & sleep 0.{after:03}; kill -9 $!; wait $! 2>/dev/null; true"
        );
        host.guest.shell(&set).ok();
        host.patchbay("nic set vm --name eth1 --cable up").ok();
        let shown = host.patchbay("nic show vm eth1").json()["vlan"].clone();
        assert_eq!(
            host.vlans(),
            [format!("{shown}u")],
            "killed after {after} ms"
        );
    }
    host.patchbay("nic set vm --name eth1 --vlan off").ok();
    assert_eq!(host.vlans(), BEFORE);
}

fn bridge_made_anew_gets_the_vlan(host: &DebianHost) {
    let anew = "ip link del br0; ip link add br0 type bridge vlan_filtering 1; ip link set tap1 master br0";
    host.guest.shell(anew).ok();
    assert_eq!(host.vlans(), ["1u"]);
    host.patchbay("nic apply vm --name eth1").ok();
    assert_eq!(host.vlans(), ["30u"]);
    host.patchbay("nic set vm --name eth1 --vlan off").ok();
    assert_eq!(host.vlans(), ["1u"]);
}

fn other_settings_change_without_vlans(host: &DebianHost) {
    let set = |words: &str| host.patchbay(&format!("nic set vm --name eth1 {words}"));
    set("--vlan 50").ok();
    let filtering = |on: u8| format!("ip link set br0 type bridge vlan_filtering {on}");
    host.guest.exec(&filtering(0)).ok();
    set("--cable down").ok();
    set("--cable up --vlan 51").assert_error(Kind::Invalid, "must filter VLANs");
    set("--queues 2").assert_error(Kind::Invalid, "must filter VLANs");
    host.guest.exec(&filtering(1)).ok();
    assert_eq!(host.vlans(), ["50u"]);
    host.guest.exec("ip link set tap1 nomaster").ok();
    set("--cable up").ok();
    set("--vlan 51").assert_error(Kind::Invalid, "is not a port of a bridge");
    set("--vlan off").ok();
    host.patchbay("nic del vm --name eth1").ok();
}
