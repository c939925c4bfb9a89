//! PCI slots, whose power the kernel's hot-plug drivers control.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use patchbay_types::PciPath;

use super::Sysfs;
use super::sysfs::device_path;

/// Maximum size of an `address` file, `DDDD:BB:SS` with a line end.
const MAX_ADDRESS_BYTES: u64 = 32;

impl Sysfs {
    /// Folder of the slots below the mount point.
    pub const SLOTS: &str = "bus/pci/slots";

    /// Returns whether a device is at this path.
    #[must_use]
    pub fn has_device(&self, path: &PciPath) -> bool {
        self.device_at(path).is_some()
    }

    /// Powers off the slot of the device at this path, and returns once the kernel has removed the
    /// device. A path without a device needs nothing.
    ///
    /// # Errors
    /// `NotFound` if no hot-plug driver serves the slot; errors of the driver.
    pub fn power_off(&self, path: &PciPath) -> io::Result<()> {
        let Some(device) = self.device_at(path) else {
            return Ok(());
        };
        // DDDD:BB:SS.F
        let address = device
            .rsplit_once('.')
            .map_or(&*device, |(address, _)| address);
        let slots = entries(self.at_path(Self::SLOTS));
        // A slot without a number has the name 0, and others like it 0-1, 0-2, …: the address decides.
        let is_own = |slot: &PathBuf| read(&slot.join("address")).trim_end() == address;
        let slot = slots.into_iter().find(is_own);
        let slot = slot.ok_or(io::ErrorKind::NotFound)?;
        let mut power = File::options().write(true).open(slot.join("power"))?;
        power.write_all(b"0")
    }

    /// Returns the name of the device at this path, `DDDD:BB:SS.F`.
    fn device_at(&self, path: &PciPath) -> Option<String> {
        let is_at = |device: &PathBuf| {
            let target = fs::read_link(device).ok();
            target
                .and_then(|target| device_path(target.to_str()?))
                .as_ref()
                == Some(path)
        };
        let device = entries(self.at_path("bus/pci/devices"))
            .into_iter()
            .find(is_at)?;
        Some(device.file_name()?.to_str()?.to_owned())
    }
}

/// Lists the entries of a folder; none if it doesn't exist.
fn entries(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Reads a short file; empty if it can't be read.
fn read(path: &Path) -> String {
    let mut text = String::new();
    let file = File::open(path).map(|file| file.take(MAX_ADDRESS_BYTES));
    let read = file.and_then(|mut file| file.read_to_string(&mut text));
    read.map(|_| text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use patchbay_types::PciAddress;

    use super::*;

    fn path(steps: &[u8]) -> PciPath {
        let steps = steps.iter().map(|slot| PciAddress::new(*slot, 0).unwrap());
        PciPath::new(steps.collect()).unwrap()
    }

    /// Creates a sysfs with a card in each of two ports without a slot number.
    fn sysfs(root: &Path) -> Sysfs {
        for folder in ["bus/pci/devices", "bus/pci/slots/0", "bus/pci/slots/0-1"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for (port, bus, slot) in [(1, 7, "0"), (2, 4, "0-1")] {
            let device = format!("0000:{bus:02x}:00.0");
            let target = format!("../../../devices/pci0000:00/0000:00:{port:02x}.0/{device}");
            symlink(target, root.join("bus/pci/devices").join(device)).unwrap();
            let slot = root.join("bus/pci/slots").join(slot);
            fs::write(slot.join("address"), format!("0000:{bus:02x}:00\n")).unwrap();
            fs::write(slot.join("power"), "1").unwrap();
        }
        Sysfs::at(root)
    }

    #[test]
    fn power_off_finds_slot_by_address() {
        let dir = tempfile::tempdir().unwrap();
        let sysfs = sysfs(dir.path());
        let power = || {
            ["0", "0-1"].map(|slot| {
                let power = dir.path().join("bus/pci/slots").join(slot).join("power");
                fs::read_to_string(power).unwrap()
            })
        };
        sysfs.power_off(&path(&[3, 0])).unwrap();
        assert_eq!(power(), ["1", "1"]);
        sysfs.power_off(&path(&[2, 0])).unwrap();
        assert_eq!(power(), ["1", "0"]);
        assert!(sysfs.has_device(&path(&[2, 0])));
        assert!(!sysfs.has_device(&path(&[2])));
    }

    #[test]
    fn power_off_without_slot_fails() {
        let dir = tempfile::tempdir().unwrap();
        let sysfs = sysfs(dir.path());
        fs::remove_dir_all(dir.path().join("bus/pci/slots")).unwrap();
        let error = sysfs.power_off(&path(&[1, 0])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
