//! PCI devices of a machine, read from QEMU's object model (QOM).
//!
//! `query-pci` omits devices on a bridge until firmware has numbered the bus; QOM lists them always.

use std::collections::HashMap;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{MacAddr, PciAddress, PciPath};
use serde::Serialize;
use serde_json::Value;

use crate::qmp::command::{QomGet, QomList, QueryPci};
use crate::qmp::{Error, Session};
use crate::sandbox::CardRecord;

/// Folders of devices: with an id, named by it; without an id, numbered.
const FOLDERS: [&str; 2] = ["/machine/peripheral", "/machine/peripheral-anon"];
/// Prefix of the paths of devices with an id.
pub(super) const NAMED_DEVICES: &str = "/machine/peripheral/";
/// Host bridge of the `pc` machine, whose root bus is the only one with hot-plug.
const PC_ROOT: &str = "/machine/i440fx";

/// PCI device of a machine.
#[derive(Debug, Default)]
pub(super) struct QomDevice {
    /// Type, as for `-device`.
    pub(super) kind: String,
    /// QOM path of the device's bus.
    pub(super) bus: String,
    pub(super) address: Option<PciAddress>,
    /// Whether the bus that the device provides supports hot-plug.
    pub(super) is_hotpluggable_bus: bool,
    mac: Option<MacAddr>,
    netdev: Option<String>,
}

/// Network card of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InventoryNic {
    /// QEMU's id; empty without one.
    pub(crate) id: String,
    pub(crate) mac: MacAddr,
    pub(crate) path: Option<PciPath>,
    pub(crate) netdev: Option<String>,
}

impl InventoryNic {
    /// Name that the card was plugged with; `None` for a card of another program.
    pub(crate) fn name(&self) -> Option<&str> {
        self.id.strip_prefix(CardRecord::DEVICE_PREFIX)
    }
}

/// Notification of the guest of hot-plug on ports and bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// ACPI events: unplugging takes up to 0.4 s.
    Acpi,
    /// The controller of the port or bridge: unplugging takes one to two seconds if the agent powers the
    /// slot off, and about 6 s otherwise, since the controller waits 5 s for an operator at its
    /// attention button.
    #[default]
    Native,
}

impl Mechanism {
    /// Reads the mechanism of ports and bridges.
    pub(super) fn read(qmp: &mut Session) -> Result<Self, Error> {
        Ok(acpi_hotplug(qmp)?.0)
    }
}

/// PCI devices of a machine.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// By QOM path.
    pub(super) devices: HashMap<String, QomDevice>,
    /// Used slots of a root bus with hot-plug; `None` if the machine has no such bus.
    pub(super) root_slots: Option<Vec<u8>>,
    /// Of ports and bridges; the root bus of a `pc` has only ACPI.
    pub(crate) mechanism: Mechanism,
}

impl Inventory {
    /// Reads all devices.
    pub(crate) fn read(qmp: &mut Session) -> Result<Self, Error> {
        let _phase = tracing::info_span!("inventory").entered();
        let (mechanism, is_acpi_on_root) = acpi_hotplug(qmp)?;
        let children = children(qmp)?;
        let mut inventory = Self {
            mechanism,
            devices: devices(qmp, &children, mechanism)?,
            root_slots: None,
        };
        let has_root = absent_is_none(qmp.run(&QomList { path: PC_ROOT }))?.is_some();
        if has_root && is_acpi_on_root {
            let buses = qmp.run(&QueryPci {})?;
            let root = buses.into_iter().filter(|bus| bus.bus == 0);
            let slots = root.flat_map(|bus| bus.devices).map(|device| device.slot);
            inventory.root_slots = Some(slots.collect());
        }
        Ok(inventory)
    }

    /// Reads the network cards whose ids start with `prefix`, and only the devices on the way to
    /// them: each property takes a third of a millisecond.
    pub(crate) fn read_nics(qmp: &mut Session, prefix: &str) -> Result<Vec<InventoryNic>, Error> {
        let _phase = tracing::info_span!("inventory").entered();
        let children = children(qmp)?;
        let some = |wanted: &dyn Fn(&str) -> bool| -> Vec<Child> {
            let wanted = children.iter().filter(|(path, _)| wanted(path));
            wanted.cloned().collect()
        };
        let mut inventory = Self::default();
        let named = format!("{NAMED_DEVICES}{prefix}");
        let mut wave = some(&|path| path.starts_with(&named));
        while !wave.is_empty() {
            let found = devices(qmp, &wave, inventory.mechanism)?;
            inventory.devices.extend(found);
            // The next wave are the bridges that provide the buses of this one.
            wave = some(&|path| {
                let provides = |device: &QomDevice| owner(&device.bus) == Some(path);
                !inventory.devices.contains_key(path) && inventory.devices.values().any(provides)
            });
        }
        Ok(inventory.nics())
    }

    /// Lists the devices with a MAC address, by path.
    pub(crate) fn nics(&self) -> Vec<InventoryNic> {
        let mut nics: Vec<InventoryNic> = self
            .devices
            .iter()
            .filter_map(|(path, device)| {
                let id = path
                    .strip_prefix(FOLDERS[0])
                    .map(|id| id.trim_start_matches('/'));
                Some(InventoryNic {
                    id: id.unwrap_or_default().to_owned(),
                    mac: device.mac?,
                    path: self.path(device),
                    netdev: device.netdev.clone(),
                })
            })
            .collect();
        nics.sort_by_key(|nic| nic.path.clone());
        nics
    }

    /// # Errors
    /// A MAC address that a card of the machine has.
    pub(crate) fn check_mac_unused(&self, mac: MacAddr) -> Result<(), Failure> {
        let Some(nic) = self.nics().into_iter().find(|nic| nic.mac == mac) else {
            return Ok(());
        };
        let id = nic.id;
        let message = format!("hwAddr '{mac}' belongs to the card '{id}' of this sandbox");
        Err(Failure::new(Kind::Exists, message).with_field("hwAddr"))
    }

    /// Returns the path from the root bus to a device.
    pub(super) fn path(&self, device: &QomDevice) -> Option<PciPath> {
        let mut steps = vec![device.address?];
        let mut bus = &device.bus;
        // The QOM path of a bus starts with that of its device; the host bridge is not in the list.
        while let Some(owner) = owner(bus).and_then(|owner| self.devices.get(owner)) {
            steps.push(owner.address?);
            bus = &owner.bus;
            if steps.len() > self.devices.len() {
                return None;
            }
        }
        steps.reverse();
        PciPath::new(steps).ok()
    }

    /// Returns an inventory without QEMU.
    #[cfg(test)]
    pub(super) fn of(devices: &[(&str, &str, &str, u8)], root_slots: Option<Vec<u8>>) -> Self {
        let device = |(path, kind, bus, devfn): &(&str, &str, &str, u8)| {
            let device = QomDevice {
                kind: (*kind).to_owned(),
                bus: (*bus).to_owned(),
                address: Some(PciAddress::from_devfn(*devfn)),
                is_hotpluggable_bus: true,
                ..QomDevice::default()
            };
            ((*path).to_owned(), device)
        };
        Self {
            devices: devices.iter().map(device).collect(),
            root_slots,
            mechanism: Mechanism::Acpi,
        }
    }
}

/// Reads the mechanism of ports and bridges, and whether ACPI serves the root bus of a `pc`. QEMU's
/// defaults depend on its version and on that of the machine.
fn acpi_hotplug(qmp: &mut Session) -> Result<(Mechanism, bool), Error> {
    // Machines of Arm have no such device, or one without PCI.
    let device = get(qmp, "/machine", "acpi-device")?;
    let Some(path) = device.as_ref().and_then(Value::as_str) else {
        return Ok((Mechanism::Native, true));
    };
    let mut flag = |property| -> Result<Option<bool>, Error> {
        Ok(get(qmp, path, property)?.and_then(|value| value.as_bool()))
    };
    let on_bridges = match flag("acpi-pci-hotplug-with-bridge-support")? {
        Some(true) => Mechanism::Acpi,
        _ => Mechanism::Native,
    };
    // QEMU before 5.2 doesn't have this property.
    Ok((on_bridges, flag("acpi-root-pci-hotplug")?.unwrap_or(true)))
}

/// Returns the QOM path of the device that provides a bus.
pub(super) fn owner(bus: &str) -> Option<&str> {
    bus.rsplit_once('/').map(|(owner, _)| owner)
}

/// QOM path and type of a device.
type Child = (String, String);

/// Lists the devices of the machine.
fn children(qmp: &mut Session) -> Result<Vec<Child>, Error> {
    let folders = FOLDERS.map(|path| QomList { path });
    let mut children = Vec::new();
    for (folder, listed) in FOLDERS.iter().zip(qmp.run_all(&folders)?) {
        for property in listed? {
            let kind = property.kind.strip_prefix("child<");
            if let Some(kind) = kind.and_then(|kind| kind.strip_suffix('>')) {
                children.push((format!("{folder}/{}", property.name), kind.to_owned()));
            }
        }
    }
    Ok(children)
}

/// Reads devices.
fn devices(
    qmp: &mut Session,
    children: &[Child],
    mechanism: Mechanism,
) -> Result<HashMap<String, QomDevice>, Error> {
    let queries: Vec<QomGet<'_>> = children
        .iter()
        .flat_map(|(path, kind)| {
            let properties = properties(kind, mechanism).into_iter();
            properties.map(move |property| QomGet { path, property })
        })
        .collect();
    let mut replies = queries.iter().zip(qmp.run_all(&queries)?).peekable();
    let mut devices = HashMap::new();
    for (path, kind) in children {
        let mut device = Properties::new();
        while let Some((query, reply)) = replies.next_if(|(of, _)| of.path == path) {
            let value = absent_is_none(reply)?;
            device.extend(value.map(|value| (query.property, value)));
        }
        let device = QomDevice::new(kind, &device);
        devices.extend(device.map(|device| (path.clone(), device)));
    }
    Ok(devices)
}

/// Lists the needed properties of a device type.
fn properties(kind: &str, mechanism: Mechanism) -> Vec<&'static str> {
    let mut properties = vec!["parent_bus", "addr"];
    properties.extend(match (kind, mechanism) {
        ("pcie-root-port" | "ioh3420", _) => Some(HOTPLUG_PROPERTIES[0]),
        // Without ACPI, hot-plug needs the bridge's own controller.
        ("pci-bridge" | "pcie-pci-bridge", Mechanism::Native) => Some(HOTPLUG_PROPERTIES[1]),
        _ => None,
    });
    if kind.contains("net") {
        properties.extend(["mac", "netdev"]);
    }
    properties
}

/// Properties of ports and of bridges that enable hot-plug on their bus.
const HOTPLUG_PROPERTIES: [&str; 2] = ["hotplug", "shpc"];

/// Properties of one device, without absent ones.
type Properties<'a> = HashMap<&'a str, Value>;

impl QomDevice {
    /// `None` for a device without a bus.
    fn new(kind: &str, properties: &Properties<'_>) -> Option<Self> {
        let text = |name| Some(properties.get(name)?.as_str()?.to_owned());
        let address = properties.get("addr").and_then(Value::as_i64);
        let address = address.and_then(|devfn| u8::try_from(devfn).ok());
        let hotplug = HOTPLUG_PROPERTIES
            .iter()
            .find_map(|name| properties.get(name));
        Some(Self {
            kind: kind.to_owned(),
            bus: text("parent_bus")?,
            address: address.map(PciAddress::from_devfn),
            is_hotpluggable_bus: hotplug.and_then(Value::as_bool).unwrap_or(true),
            mac: text("mac").and_then(|mac| mac.parse().ok()),
            netdev: text("netdev"),
        })
    }
}

/// Reads a property; `None` if the object or the property does not exist.
fn get(qmp: &mut Session, path: &str, property: &str) -> Result<Option<Value>, Error> {
    absent_is_none(qmp.run(&QomGet { path, property }))
}

fn absent_is_none<T>(reply: Result<T, Error>) -> Result<Option<T>, Error> {
    match reply {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A card whose properties QEMU refuses must not be taken for one that is gone.
    #[test]
    fn refused_property_is_absent_only_if_not_found() {
        let refused = |class: &str, text: &str| {
            absent_is_none::<Value>(Err(Error::Refused {
                command: "qom-get",
                class: class.to_owned(),
                text: text.to_owned(),
            }))
        };
        let not_found = refused("GenericError", "Property 'pc.acpi-device' not found");
        assert!(matches!(not_found, Ok(None)));
        let gone = refused("DeviceNotFound", "Device '/machine/peripheral/x' not found");
        assert!(matches!(gone, Ok(None)));
        let other = refused("GenericError", "no");
        assert!(matches!(other, Err(Error::Refused { .. })));
    }
}
