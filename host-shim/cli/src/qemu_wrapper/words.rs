//! QEMU's command line, as far as the wrapper reads and extends it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use patchbay_host::sandbox::SandboxId;

/// Chassis number of the first added root port; Kata numbers its ports from 0.
const FIRST_CHASSIS: u8 = 64;
/// Maximum number of devices on the root bus with the added ports. QEMU assigns slots by itself, and
/// some are taken by the chipset.
const MAX_ROOT_DEVICES: usize = 28;

/// Parsed command line.
#[derive(Debug, Default)]
pub(super) struct Words<'a> {
    name: Option<&'a str>,
    machine: Option<&'a str>,
    devices: Vec<Device<'a>>,
}

/// Value of a `-device` option.
#[derive(Debug)]
struct Device<'a> {
    driver: &'a str,
    id: Option<&'a str>,
    bus: Option<&'a str>,
}

impl<'a> Words<'a> {
    pub(super) fn parse(words: &'a [OsString]) -> Self {
        let mut parsed = Self::default();
        // Values that are not UTF-8 don't occur in the options below.
        let mut words = words.iter().map(|word| word.to_str().unwrap_or_default());
        while let Some(word) = words.next() {
            let option = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
            match option {
                Some("name") => parsed.name = words.next(),
                Some("machine" | "M") => parsed.machine = words.next(),
                Some("device") => parsed.devices.extend(words.next().map(Device::parse)),
                _ => {}
            }
        }
        parsed
    }

    /// Returns the id of Kata's sandbox.
    pub(super) fn sandbox(&self) -> Option<SandboxId> {
        let name = self.name?.split(',').next()?;
        name.strip_prefix("sandbox-")?.parse().ok()
    }

    /// Returns the number of root ports to add; `wanted` if the machine can have them and has no free
    /// one. Kata has free ports where `hot_plug_vfio` is configured.
    pub(super) fn missing_ports(&self, wanted: u8) -> u8 {
        if !self.has_express() || self.devices.iter().any(|device| self.is_free_port(device)) {
            return 0;
        }
        let is_on_root = |device: &&Device<'_>| device.bus.is_none_or(|bus| bus == "pcie.0");
        let used = self.devices.iter().filter(is_on_root).count();
        let free = MAX_ROOT_DEVICES.saturating_sub(used);
        u8::try_from(free).map_or(wanted, |free| free.min(wanted))
    }

    /// Returns whether the machine has PCI Express: `q35` of x86 and `virt` of arm64, also with a version.
    fn has_express(&self) -> bool {
        let machine = self.machine.unwrap_or_default();
        let kind = machine.split(',').next().unwrap_or_default();
        let kind = kind.strip_prefix("type=").unwrap_or(kind);
        let kind = kind.strip_prefix("pc-").unwrap_or(kind);
        matches!(kind.split('-').next(), Some("q35" | "virt"))
    }

    fn is_free_port(&self, port: &Device<'_>) -> bool {
        let is_port = matches!(port.driver, "pcie-root-port" | "ioh3420");
        is_port && port.id.is_some() && self.devices.iter().all(|device| device.bus != port.id)
    }
}

impl<'a> Device<'a> {
    /// Parses `DRIVER,KEY=VALUE...`. Kata doesn't use QEMU's JSON syntax.
    fn parse(value: &'a str) -> Self {
        let property = |name: &str| {
            let mut properties = value.split(',').filter_map(|part| part.split_once('='));
            properties.find_map(|(key, value)| (key == name).then_some(value))
        };
        let first = value.split(',').next().unwrap_or_default();
        Self {
            driver: property("driver").unwrap_or(first),
            id: property("id"),
            bus: property("bus"),
        }
    }
}

/// Returns the words for a monitor at this path and for root ports.
pub(super) fn added(socket: &Path, ports: u8) -> Vec<OsString> {
    // A single comma ends the value.
    let mut monitor = b"unix:".to_vec();
    for byte in socket.as_os_str().as_bytes() {
        let count = if *byte == b',' { 2 } else { 1 };
        monitor.extend(std::iter::repeat_n(*byte, count));
    }
    monitor.extend(b",server=on,wait=off");
    let mut words = vec![OsString::from("-qmp"), OsString::from_vec(monitor)];
    for port in 0..ports {
        let chassis = FIRST_CHASSIS.saturating_add(port);
        let device = format!("pcie-root-port,id=pbp{port},bus=pcie.0,chassis={chassis}");
        words.extend(["-device".into(), device.into()]);
    }
    words
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    const ID: &str = "6ec7a98b0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7";

    /// Command lines as Kata's runtimes build them, a word in each line.
    const GO: &str = include_str!("kata-go.txt");
    const RUST: &str = include_str!("kata-runtime-rs.txt");

    fn words(text: &str) -> Vec<OsString> {
        text.lines().map(OsString::from).collect()
    }

    /// Returns the sandbox and the number of ports to add, of 4.
    fn parsed(text: &str) -> (Option<String>, u8) {
        let words = words(text);
        let parsed = Words::parse(&words);
        let id = parsed.sandbox().map(|id| id.to_string());
        (id, parsed.missing_ports(4))
    }

    fn line(words: &str) -> String {
        words.replace(' ', "\n")
    }

    #[test]
    fn words_of_kata_get_ports() {
        for text in [GO, RUST] {
            assert_eq!(parsed(text), (Some(ID.to_owned()), 4));
        }
    }

    #[test]
    fn words_with_free_port_get_none() {
        for text in [GO, RUST] {
            let port = "-device\npcie-root-port,id=rp0,bus=pcie.0,chassis=0x00,slot=0x00,multifunction=off\n";
            assert_eq!(parsed(&format!("{port}{text}")).1, 0);
            let occupied = format!("{port}-device\nvfio-pci,host=0000:21:00.0,bus=rp0\n{text}");
            assert_eq!(parsed(&occupied).1, 4);
        }
    }

    #[test]
    fn words_without_sandbox_have_none() {
        for probe in [
            "--version",
            "-machine none -display none -qmp stdio",
            "-name",
            "-name sandbox-",
            "-name sandbox-../x",
            "-name other",
            "-append -name=sandbox-a",
        ] {
            assert_eq!(parsed(&line(probe)).0, None, "{probe}");
        }
        let debug = parsed(&line("-name sandbox-a,debug-threads=on"));
        assert_eq!(debug.0.as_deref(), Some("a"));
    }

    #[test]
    fn ports_need_express_and_free_slots() {
        for (machine, ports) in [
            ("-machine q35,accel=kvm", 4),
            ("-machine type=q35,accel=kvm", 4),
            ("-M pc-q35-9.2", 4),
            ("-machine virt,usb=off,gic-version=3", 4),
            ("-machine pc,accel=kvm", 0),
            ("-machine microvm", 0),
            ("-machine s390-ccw-virtio,accel=kvm", 0),
            ("", 0),
        ] {
            assert_eq!(parsed(&line(machine)).1, ports, "{machine}");
        }
        let crowded = "-machine\nq35\n".to_owned() + &"-device\nvirtio-rng-pci\n".repeat(25);
        assert_eq!(parsed(&crowded).1, 3);
        let full = crowded + &"-device\nvirtio-rng-pci\n".repeat(25);
        assert_eq!(parsed(&full).1, 0);
    }

    #[test]
    fn added_words_are_monitor_and_ports() {
        let words = added(Path::new("/run/a,b/.kata/x/qmp.sock"), 2);
        assert_eq!(
            words.join(OsStr::new(" ")).to_str().unwrap(),
            "-qmp unix:/run/a,,b/.kata/x/qmp.sock,server=on,wait=off \
             -device pcie-root-port,id=pbp0,bus=pcie.0,chassis=64 \
             -device pcie-root-port,id=pbp1,bus=pcie.0,chassis=65"
        );
        assert_eq!(added(Path::new("/q"), 0).len(), 2);
    }
}
