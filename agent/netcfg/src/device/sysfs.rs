//! PCI paths of network devices, from sysfs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use patchbay_types::{LinkName, PciAddress, PciPath};

/// Mounted sysfs.
#[derive(Debug, Clone)]
pub struct Sysfs(PathBuf);

impl Sysfs {
    /// Uses the sysfs mounted at `root`, usually `/sys`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Returns the PCI path of the link with this name and index. `None` if it isn't a PCI device, or
    /// if the link was removed or renamed in the meantime.
    #[must_use]
    pub fn path_of(&self, name: &LinkName, index: u32) -> Option<PciPath> {
        let link = self
            .0
            .join("class/net")
            .join(OsStr::from_bytes(name.as_bytes()));
        let target = fs::read_link(&link).ok()?;
        // Another link can have the name now; the index is never reused.
        let current: u32 = fs::read_to_string(link.join("ifindex"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        (current == index).then(|| device_path(target.to_str()?))?
    }
}

/// Parses `../../devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio0/net/eth0`. The path consists of
/// the slot and function of each level; bus numbers are assigned by the guest and ignored. Only the
/// first root bus is supported: QEMU's machines have no other by default.
pub(crate) fn device_path(target: &str) -> Option<PciPath> {
    let (_, below) = target.split_once("/pci0000:00/")?;
    let steps = below.split('/').map_while(pci_address).collect();
    PciPath::new(steps).ok()
}

/// Parses `DDDD:BB:SS.F`.
fn pci_address(component: &str) -> Option<PciAddress> {
    let [domain, bus, device] = component.split(':').collect::<Vec<_>>().try_into().ok()?;
    let (slot, function) = device.split_once('.')?;
    let hex = |text: &str, width| {
        let legal = text.len() == width && text.bytes().all(|b| b.is_ascii_hexdigit());
        legal.then(|| u16::from_str_radix(text, 16).ok())?
    };
    let (_, _) = (hex(domain, 4)?, hex(bus, 2)?);
    let byte = |number: u16| u8::try_from(number).ok();
    PciAddress::new(byte(hex(slot, 2)?)?, byte(hex(function, 1)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_text(target: &str) -> Option<String> {
        device_path(target).map(|path| path.to_string())
    }

    #[test]
    fn device_path_ignores_bus_numbers() {
        let behind_port = "../../devices/pci0000:00/0000:00:03.0/0000:01:00.0/virtio0/net/eth0";
        assert_eq!(path_text(behind_port).unwrap(), "03.0/00");
        let behind_two =
            "../../devices/pci0000:00/0000:00:1e.1/0000:0a:00.0/0000:0b:05.0/virtio2/net/eth0";
        assert_eq!(path_text(behind_two).unwrap(), "1e.1/00.0/05");
        let on_root = "../../devices/pci0000:00/0000:00:05.0/virtio1/net/eth0";
        assert_eq!(path_text(on_root).unwrap(), "05");
        let arm = "../../devices/platform/4010000000.pcie/pci0000:00/0000:00:01.0/0000:01:00.0/virtio3/net/a";
        assert_eq!(path_text(arm).unwrap(), "01.0/00");
    }

    #[test]
    fn device_path_of_other_devices_is_none() {
        for target in [
            "",
            "../../devices/virtual/net/lo",
            "../../devices/pci0000:00/virtio0/net/eth0",
            "../../devices/pci0000:00/0000:00:+3.0/net/eth0",
            "../../devices/pci0000:00/0000:00:3f.0/net/eth0",
            "../../devices/pci0000:01/0000:01:03.0/net/eth0",
        ] {
            assert_eq!(path_text(target), None, "{target}");
        }
    }
}
