//! A free place for a card.

use std::collections::HashSet;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{PciAddress, PciPath};

use super::{Inventory, inventory};

/// A place that is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    /// Name of the bus for `device_add`.
    pub bus: String,
    /// Where a card in it will be.
    pub path: PciPath,
}

impl Slot {
    /// `addr` for `device_add`. On a root port it must be 0: QEMU before 8.1 takes any other slot
    /// too, which no guest will ever see.
    pub(super) fn address(&self) -> String {
        let slot = self.path.steps().last().map_or(0, |step| step.slot());
        format!("0x{slot:x}")
    }
}

/// The free places in the order in which they are taken: root ports, which no other card shares;
/// then bridges; then the root bus of a `pc`.
pub(super) fn free(inventory: &Inventory) -> Vec<Slot> {
    let (mut ports, mut bridges) = (Vec::new(), Vec::new());
    // The bus of a device without an id has a name that only QEMU knows.
    let named = |path: &str| path.starts_with(inventory::NAMED);
    for (path, device) in inventory.devices() {
        if !device.takes_cards || !named(path) {
            continue;
        }
        let Some((at, name)) = inventory.path(device).zip(path.rsplit('/').next()) else {
            continue;
        };
        let taken = taken(inventory, path);
        match device.kind.as_str() {
            "pcie-root-port" | "ioh3420" if taken.is_empty() => {
                ports.extend(place(name, at.steps(), 0));
            }
            // Slot 0 of a bridge is its hot-plug controller's, where it has one. openEuler's kata
            // stops at 25 cards; QEMU and the guest take all 31.
            "pci-bridge" | "pcie-pci-bridge" => {
                let slots = (1..32).filter(|slot| !taken.contains(slot));
                bridges.extend(slots.filter_map(|slot| place(name, at.steps(), slot)));
            }
            _ => {}
        }
    }
    ports.sort_by(|a, b| a.path.cmp(&b.path));
    bridges.sort_by(|a, b| a.path.cmp(&b.path));
    let root = inventory.root_slots.iter().flat_map(|taken| {
        // 0 is the host bridge, 1 the ISA bridge.
        let slots = (2..32).filter(|slot| !taken.contains(slot));
        slots.filter_map(|slot| place("pci.0", &[], slot))
    });
    ports.into_iter().chain(bridges).chain(root).collect()
}

/// How many places are free on each bus, in the order in which they are taken.
pub fn free_by_bus(inventory: &Inventory) -> Vec<(String, usize)> {
    let mut buses: Vec<(String, usize)> = Vec::new();
    for slot in free(inventory) {
        match buses.last_mut() {
            Some((bus, count)) if *bus == slot.bus => *count += 1,
            _ => buses.push((slot.bus, 1)),
        }
    }
    buses
}

/// What a machine without a free place says.
pub fn none_free() -> Failure {
    let sentence = "the machine has no free PCI slot that takes a card while it runs: it needs \
                    another pcie-root-port (q35) or pci-bridge (pc), and those can't be hot-plugged";
    Failure::new(Kind::Unsupported, sentence)
}

/// The first free place.
pub(super) fn first_free(inventory: &Inventory) -> Result<Slot, Failure> {
    free(inventory).into_iter().next().ok_or_else(none_free)
}

fn place(bus: &str, way: &[PciAddress], slot: u8) -> Option<Slot> {
    let mut steps = way.to_vec();
    steps.push(PciAddress::new(slot, 0).ok()?);
    Some(Slot {
        bus: bus.to_owned(),
        path: PciPath::new(steps).ok()?,
    })
}

/// Slots in use on the bus that the device at this QOM path makes.
fn taken(inventory: &Inventory, owner: &str) -> HashSet<u8> {
    let on_it = inventory.devices().filter(|(_, device)| {
        device
            .bus
            .rsplit_once('/')
            .is_some_and(|(path, _)| path == owner)
    });
    // A device that does not tell its slot is taken to sit in the first.
    on_it
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
    fn empty_root_ports_come_first_in_their_order() {
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
            text(&free(&inventory)),
            ["rp2 0x0 02.0/00", "rp3 0x0 03.0/00"]
        );
    }

    #[test]
    fn a_bridge_offers_what_is_not_taken_and_takes_its_port() {
        let inventory = machine(
            &[
                ("rp1", "pcie-root-port", "", 1 << 3),
                ("br", "pcie-pci-bridge", "rp1", 0),
                ("disk", "virtio-blk-pci", "br", 1 << 3),
            ],
            None,
        );
        let slots = free(&inventory);
        assert_eq!(slots.len(), 30);
        assert_eq!(text(&slots[..1]), ["br 0x2 01.0/00.0/02"]);
        assert_eq!(text(&slots[29..]), ["br 0x1f 01.0/00.0/1f"]);
    }

    #[test]
    fn the_root_bus_of_a_pc_comes_last() {
        let inventory = machine(&[("br", "pci-bridge", "", 2 << 3)], Some(vec![0, 1, 2, 4]));
        let slots = free(&inventory);
        assert_eq!(text(&slots[..1]), ["br 0x1 02.0/01"]);
        assert_eq!(text(&slots[31..33]), ["pci.0 0x3 03", "pci.0 0x5 05"]);
        let counts = [("br".to_owned(), 31), ("pci.0".to_owned(), 28)];
        assert_eq!(free_by_bus(&inventory), counts);
    }

    #[test]
    fn a_full_machine_says_what_it_needs() {
        let failure = first_free(&machine(&[], None)).unwrap_err();
        assert_eq!(failure.kind(), Kind::Unsupported);
        assert!(failure.to_string().contains("pcie-root-port"), "{failure}");
    }
}
