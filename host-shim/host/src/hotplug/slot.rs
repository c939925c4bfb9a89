//! Free PCI slots.

use std::collections::HashSet;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{PciAddress, PciPath};

use super::inventory::{Inventory, NAMED_DEVICES, owner};

/// Free PCI slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    /// Name of the bus for `device_add`.
    pub(super) bus: String,
    /// Path of a card in it.
    pub(super) path: PciPath,
}

impl Slot {
    /// Returns `addr` for `device_add`. On a root port it must be 0: QEMU before 8.1 accepts other
    /// slots, which a guest never sees.
    pub(super) fn address(&self) -> String {
        let slot = self.path.steps().last().map_or(0, |step| step.slot());
        format!("0x{slot:x}")
    }
}

/// Lists the free slots in order of preference: root ports, which hold a single card; bridges; the
/// root bus of a `pc`.
fn free_slots(inventory: &Inventory) -> Vec<Slot> {
    let (mut ports, mut bridges) = (Vec::new(), Vec::new());
    // Only QEMU knows the bus name of a device without an id.
    let named = |path: &str| path.starts_with(NAMED_DEVICES);
    for (path, device) in &inventory.devices {
        if !device.is_hotpluggable_bus || !named(path) {
            continue;
        }
        let Some((at, name)) = inventory.path(device).zip(path.rsplit('/').next()) else {
            continue;
        };
        let used = used_slots(inventory, path);
        match device.kind.as_str() {
            "pcie-root-port" | "ioh3420" if used.is_empty() => {
                ports.extend(slot_at(name, at.steps(), 0));
            }
            // Slot 0 of a bridge is that of its hot-plug controller, if it has one. openEuler's kata
            // stops at 25 cards; QEMU and the guest accept all 31.
            "pci-bridge" | "pcie-pci-bridge" => {
                let slots = (1..32).filter(|slot| !used.contains(slot));
                bridges.extend(slots.filter_map(|slot| slot_at(name, at.steps(), slot)));
            }
            _ => {}
        }
    }
    ports.sort_by(|a, b| a.path.cmp(&b.path));
    bridges.sort_by(|a, b| a.path.cmp(&b.path));
    let root = inventory.root_slots.iter().flat_map(|used| {
        // Slot 0 is the host bridge, slot 1 the ISA bridge.
        let slots = (2..32).filter(|slot| !used.contains(slot));
        slots.filter_map(|slot| slot_at("pci.0", &[], slot))
    });
    ports.into_iter().chain(bridges).chain(root).collect()
}

/// Counts the free slots of each bus, in order of preference.
pub(crate) fn free_by_bus(inventory: &Inventory) -> Vec<(String, usize)> {
    let mut buses: Vec<(String, usize)> = Vec::new();
    for slot in free_slots(inventory) {
        match buses.last_mut() {
            Some((bus, count)) if *bus == slot.bus => *count += 1,
            _ => buses.push((slot.bus, 1)),
        }
    }
    buses
}

/// Returns the failure for a machine without a free slot.
pub(crate) fn no_free_slot() -> Failure {
    let message = "the machine has no free PCI slot for hot-plug: it needs another pcie-root-port \
                   (q35) or pci-bridge (pc), which can't be hot-plugged";
    Failure::new(Kind::Unsupported, message)
}

/// Returns the preferred free slot.
pub(super) fn first_free(inventory: &Inventory) -> Result<Slot, Failure> {
    free_slots(inventory)
        .into_iter()
        .next()
        .ok_or_else(no_free_slot)
}

fn slot_at(bus: &str, parents: &[PciAddress], slot: u8) -> Option<Slot> {
    let mut steps = parents.to_vec();
    steps.push(PciAddress::new(slot, 0).ok()?);
    Some(Slot {
        bus: bus.to_owned(),
        path: PciPath::new(steps).ok()?,
    })
}

/// Returns the used slots of the bus that the device at this QOM path provides.
fn used_slots(inventory: &Inventory, bridge: &str) -> HashSet<u8> {
    let devices = inventory.devices.iter();
    let on_bus = devices.filter(|(_, device)| owner(&device.bus) == Some(bridge));
    // A device without an address is assumed in the first slot.
    on_bus
        .map(|(_, device)| device.address.map_or(0, PciAddress::slot))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: &str = "/machine/peripheral";

    fn text(slots: &[Slot]) -> Vec<String> {
        slots
            .iter()
            .map(|s| format!("{} {} {}", s.bus, s.address(), s.path))
            .collect()
    }

    fn machine(devices: &[(&str, &str, &str, u8)], root: Option<Vec<u8>>) -> Inventory {
        let bus = |bus: &str| match bus {
            "" => "/machine/q35/pcie.0".to_owned(),
            owner => format!("{P}/{owner}/{owner}"),
        };
        let full: Vec<_> = devices
            .iter()
            .map(|(id, kind, on, devfn)| (format!("{P}/{id}"), *kind, bus(on), *devfn))
            .collect();
        let full: Vec<_> = full
            .iter()
            .map(|(p, k, b, d)| (p.as_str(), *k, b.as_str(), *d))
            .collect();
        Inventory::of(&full, root)
    }

    #[test]
    fn free_slots_orders_empty_root_ports() {
        let inventory = machine(
            &[
                ("rp3", "pcie-root-port", "", 3 << 3),
                ("rp1", "pcie-root-port", "", 1 << 3),
                ("rp2", "pcie-root-port", "", 2 << 3),
                ("pbd.eth1", "virtio-net-pci", "rp1", 0),
            ],
            None,
        );
        assert_eq!(
            text(&free_slots(&inventory)),
            ["rp2 0x0 02.0/00", "rp3 0x0 03.0/00"]
        );
    }

    #[test]
    fn free_slots_of_bridge_excludes_used_ones() {
        let inventory = machine(
            &[
                ("rp1", "pcie-root-port", "", 1 << 3),
                ("br", "pcie-pci-bridge", "rp1", 0),
                ("disk", "virtio-blk-pci", "br", 1 << 3),
            ],
            None,
        );
        let slots = free_slots(&inventory);
        assert_eq!(slots.len(), 30);
        assert_eq!(text(&slots[..1]), ["br 0x2 01.0/00.0/02"]);
        assert_eq!(text(&slots[29..]), ["br 0x1f 01.0/00.0/1f"]);
    }

    #[test]
    fn free_slots_lists_pc_root_bus_last() {
        let inventory = machine(&[("br", "pci-bridge", "", 2 << 3)], Some(vec![0, 1, 2, 4]));
        let slots = free_slots(&inventory);
        assert_eq!(text(&slots[..1]), ["br 0x1 02.0/01"]);
        assert_eq!(text(&slots[31..33]), ["pci.0 0x3 03", "pci.0 0x5 05"]);
        let counts = [("br".to_owned(), 31), ("pci.0".to_owned(), 28)];
        assert_eq!(free_by_bus(&inventory), counts);
    }

    #[test]
    fn first_free_full_machine_is_unsupported() {
        let failure = first_free(&machine(&[], None)).unwrap_err();
        assert_eq!(failure.kind(), Kind::Unsupported);
        assert!(failure.to_string().contains("pcie-root-port"), "{failure}");
    }
}
