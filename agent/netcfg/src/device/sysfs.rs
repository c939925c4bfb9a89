//! PCI paths of network devices, from sysfs.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use patchbay_types::{LinkName, PciAddress, PciPath, Place};

/// Mounted sysfs.
#[derive(Debug, Clone)]
pub struct Sysfs(PathBuf);

impl Sysfs {
    /// Uses the sysfs mounted at `root`, usually `/sys`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Returns the path of a file.
    pub(super) fn at_path(&self, path: &str) -> PathBuf {
        self.0.join(path)
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
        // The name at its end can have any bytes.
        (current == index).then(|| device_path(&target.to_string_lossy()))?
    }

    /// Locates the cards at these paths.
    ///
    /// # Errors
    /// The list of PCI devices can't be read.
    pub fn places(&self, paths: &[PciPath]) -> io::Result<Vec<Place>> {
        let mut devices = HashMap::new();
        for entry in fs::read_dir(self.0.join("bus/pci/devices"))? {
            let device = entry?.path();
            // Removed in the meantime if it can't be read.
            let target = fs::read_link(&device).unwrap_or_default();
            let path = target.to_str().and_then(device_path);
            devices.extend(path.map(|path| (path, device)));
        }
        let place = |path| devices.get(path).map_or(Place::NotOnBus, |dir| place(dir));
        Ok(paths.iter().map(place).collect())
    }
}

/// Driver of virtio's PCI devices.
const VIRTIO_PCI: &str = "virtio-pci";

/// Determines the place of the card with this folder. The virtio device is a child of the PCI device;
/// the kernel hides its interface in other network namespaces than that of the mounted sysfs.
fn place(pci: &Path) -> Place {
    match driver(pci).as_deref() {
        None => return Place::NoDriver,
        Some(VIRTIO_PCI) => {}
        Some(other) => return Place::OtherDriver(other.to_owned()),
    }
    let is_virtio = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("virtio"))
    };
    let Some(virtio) = children(pci).find(is_virtio) else {
        return Place::NoDriver;
    };
    match driver(&virtio) {
        None => Place::NoDriver,
        Some(_) if children(&virtio.join("net")).next().is_some() => Place::AgentNamespace,
        Some(_) => Place::OtherNamespace,
    }
}

/// Returns the name of the driver that is bound to a device.
fn driver(device: &Path) -> Option<String> {
    let driver = fs::read_link(device.join("driver")).ok()?;
    Some(driver.file_name()?.to_str()?.to_owned())
}

/// Lists the entries of a folder; none if it doesn't exist.
fn children(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
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

    /// Creates a sysfs with a card at 01.0/00, bound to these drivers.
    fn sysfs(
        pci_driver: Option<&str>,
        virtio_driver: Option<&str>,
        net: &[&str],
    ) -> (tempfile::TempDir, Sysfs) {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let device = "devices/pci0000:00/0000:00:01.0/0000:01:00.0";
        let virtio = root.join(device).join("virtio0");
        for name in net {
            fs::create_dir_all(virtio.join("net").join(name)).unwrap();
        }
        fs::create_dir_all(&virtio).unwrap();
        for (device, driver) in [(root.join(device), pci_driver), (virtio, virtio_driver)] {
            if let Some(driver) = driver {
                symlink(Path::new("/drivers").join(driver), device.join("driver")).unwrap();
            }
        }
        let bus = root.join("bus/pci/devices");
        fs::create_dir_all(&bus).unwrap();
        symlink(Path::new("../../..").join(device), bus.join("0000:01:00.0")).unwrap();
        let sysfs = Sysfs::at(root);
        (dir, sysfs)
    }

    #[test]
    fn places_follow_drivers_and_namespaces() {
        let steps =
            [(1, 0), (0, 0)].map(|(slot, function)| PciAddress::new(slot, function).unwrap());
        let card = PciPath::new(steps.to_vec()).unwrap();
        let port = PciPath::new(steps[..1].to_vec()).unwrap();
        let place = |pci, virtio, net: &[&str]| {
            let (_dir, sysfs) = sysfs(pci, virtio, net);
            let mut places = sysfs.places(&[port.clone(), card.clone()]).unwrap();
            assert_eq!(places[0], Place::NotOnBus);
            places.remove(1)
        };
        let (pci, net) = (Some("virtio-pci"), Some("virtio_net"));
        assert_eq!(place(pci, net, &["eth0"]), Place::AgentNamespace);
        assert_eq!(place(pci, net, &[]), Place::OtherNamespace);
        assert_eq!(place(pci, None, &[]), Place::NoDriver);
        assert_eq!(place(None, None, &[]), Place::NoDriver);
        let vfio = Place::OtherDriver("vfio-pci".to_owned());
        assert_eq!(place(Some("vfio-pci"), None, &[]), vfio);
    }

    #[test]
    fn path_of_link_with_any_name_is_found() {
        use std::os::unix::fs::symlink;
        let (dir, sysfs) = sysfs(None, None, &[]);
        let class = dir.path().join("class/net");
        fs::create_dir_all(&class).unwrap();
        for (index, bytes) in (1..).zip([&b"eth0"[..], b"wg=0", b"-x\"", b"eth\xff", b"\xc3"]) {
            let name = OsStr::from_bytes(bytes);
            let link =
                Path::new("devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio0/net").join(name);
            fs::create_dir_all(dir.path().join(&link)).unwrap();
            fs::write(dir.path().join(&link).join("ifindex"), index.to_string()).unwrap();
            symlink(Path::new("../..").join(link), class.join(name)).unwrap();
            let name = LinkName::try_from(bytes).unwrap();
            let path = sysfs.path_of(&name, index).map(|path| path.to_string());
            assert_eq!(path.as_deref(), Some("01.0/00"), "{name}");
            assert_eq!(sysfs.path_of(&name, 9), None);
        }
    }

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
