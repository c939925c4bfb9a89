//! PCI devices of a machine, read from QEMU's object model (QOM).
//!
//! `query-pci` omits devices on a bridge until firmware has numbered the bus; QOM lists them always.

use std::collections::HashMap;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{MacAddr, PciAddress, PciPath};
use serde::Serialize;
use serde_json::Value;

use crate::qmp::command::{QomGet, QomList, QueryPci};
use crate::qmp::{Error, Replies, Session};
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
        let acpi = acpi_path(qmp.run_all(&[ACPI_DEVICE])?)?;
        let flags = qmp.run_all(&acpi_queries(acpi.as_deref()))?;
        Ok(acpi_hotplug(acpi.as_deref(), flags)?.0)
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
        let folders = [FOLDERS[0], FOLDERS[1], PC_ROOT].map(|path| QomList { path });
        let (acpi, mut folders) = qmp.run_both(&[ACPI_DEVICE], &folders)?;
        let root = folders.pop().map(absent_is_none).transpose()?.flatten();
        let children = children(folders)?;
        let acpi = acpi_path(acpi)?;
        let flags = acpi_queries(acpi.as_deref());
        let mut queries = flags.clone();
        queries.extend(property_queries(&children));
        let mut replies = qmp.run_all(&queries)?;
        let of_devices = replies.split_off(flags.len());
        let (mechanism, is_acpi_on_root) = acpi_hotplug(acpi.as_deref(), replies)?;
        let mut inventory = Self {
            mechanism,
            devices: devices(&children, (&queries[flags.len()..], of_devices), mechanism)?,
            root_slots: None,
        };
        if root.is_some() && is_acpi_on_root {
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
        let children = children(qmp.run_all(&FOLDERS.map(|path| QomList { path }))?)?;
        let some = |wanted: &dyn Fn(&str) -> bool| -> Vec<Child> {
            let wanted = children.iter().filter(|(path, _)| wanted(path));
            wanted.cloned().collect()
        };
        let mut inventory = Self::default();
        let named = format!("{NAMED_DEVICES}{prefix}");
        let mut wave = some(&|path| path.starts_with(&named));
        while !wave.is_empty() {
            let queries = property_queries(&wave);
            let replies = qmp.run_all(&queries)?;
            let found = devices(&wave, (&queries, replies), inventory.mechanism)?;
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
        let message = match nic.name() {
            Some(name) => format!("hwAddr '{mac}' belongs to the card '{name}' of this sandbox"),
            None => format!("hwAddr '{mac}' belongs to a card of another program in this sandbox"),
        };
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

/// Device of ACPI. Machines of Arm have none, or one without PCI.
const ACPI_DEVICE: QomGet<'static> = QomGet {
    path: "/machine",
    property: "acpi-device",
};

/// Returns the QOM path of the ACPI device.
fn acpi_path(replies: Replies<QomGet<'_>>) -> Result<Option<String>, Error> {
    let reply = replies.into_iter().next();
    let device = reply.map(absent_is_none).transpose()?.flatten();
    Ok(device.and_then(|device| device.as_str().map(str::to_owned)))
}

/// Returns the queries of [`acpi_hotplug`].
fn acpi_queries(acpi: Option<&str>) -> Vec<QomGet<'_>> {
    let flags = [
        "acpi-pci-hotplug-with-bridge-support",
        "acpi-root-pci-hotplug",
    ];
    let query = |path| flags.map(|property| QomGet { path, property });
    acpi.into_iter().flat_map(query).collect()
}

/// Returns the mechanism of ports and bridges, and whether ACPI serves the root bus of a `pc`. QEMU's
/// defaults depend on its version and on that of the machine.
fn acpi_hotplug(
    acpi: Option<&str>,
    flags: Replies<QomGet<'_>>,
) -> Result<(Mechanism, bool), Error> {
    if acpi.is_none() {
        return Ok((Mechanism::Native, true));
    }
    let mut flags = flags.into_iter().map(|reply| {
        let value = absent_is_none(reply)?;
        Ok::<_, Error>(value.and_then(|value| value.as_bool()))
    });
    let mut flag = || flags.next().transpose().map(Option::flatten);
    let on_bridges = match flag()? {
        Some(true) => Mechanism::Acpi,
        _ => Mechanism::Native,
    };
    // QEMU before 5.2 doesn't have this property.
    Ok((on_bridges, flag()?.unwrap_or(true)))
}

/// Returns the QOM path of the device that provides a bus.
pub(super) fn owner(bus: &str) -> Option<&str> {
    bus.rsplit_once('/').map(|(owner, _)| owner)
}

/// QOM path and type of a device.
type Child = (String, String);

/// Returns the devices of the machine from the lists of [`FOLDERS`].
fn children(folders: Replies<QomList<'_>>) -> Result<Vec<Child>, Error> {
    let mut children = Vec::new();
    for (folder, listed) in FOLDERS.iter().zip(folders) {
        for property in listed? {
            let kind = property.kind.strip_prefix("child<");
            if let Some(kind) = kind.and_then(|kind| kind.strip_suffix('>')) {
                children.push((format!("{folder}/{}", property.name), kind.to_owned()));
            }
        }
    }
    Ok(children)
}

/// Returns the queries of [`devices`].
fn property_queries(children: &[Child]) -> Vec<QomGet<'_>> {
    let of_children = children.iter().flat_map(|(path, kind)| {
        let properties = properties(kind).into_iter();
        properties.map(move |property| QomGet { path, property })
    });
    of_children.collect()
}

/// Builds the devices from the replies to the queries of their properties.
fn devices(
    children: &[Child],
    (queries, replies): (&[QomGet<'_>], Replies<QomGet<'_>>),
    mechanism: Mechanism,
) -> Result<HashMap<String, QomDevice>, Error> {
    let mut replies = queries.iter().zip(replies).peekable();
    let mut devices = HashMap::new();
    for (path, kind) in children {
        let mut device = Properties::new();
        while let Some((query, reply)) = replies.next_if(|(of, _)| of.path == path) {
            let value = absent_is_none(reply)?;
            device.extend(value.map(|value| (query.property, value)));
        }
        let device = QomDevice::new(kind, &device, mechanism);
        devices.extend(device.map(|device| (path.clone(), device)));
    }
    Ok(devices)
}

/// Lists the needed properties of a device type.
fn properties(kind: &str) -> Vec<&'static str> {
    let mut properties = vec!["parent_bus", "addr"];
    properties.extend(match kind {
        "pcie-root-port" | "ioh3420" => Some(PORT_HOTPLUG),
        "pci-bridge" | "pcie-pci-bridge" => Some(BRIDGE_HOTPLUG),
        _ => None,
    });
    if kind.contains("net") {
        properties.extend(["mac", "netdev"]);
    }
    properties
}

/// Property of a port that enables hot-plug on its bus.
const PORT_HOTPLUG: &str = "hotplug";
/// Property of a bridge that gives it its own controller, which hot-plug needs without ACPI.
const BRIDGE_HOTPLUG: &str = "shpc";

/// Properties of one device, without absent ones.
type Properties<'a> = HashMap<&'a str, Value>;

impl QomDevice {
    /// `None` for a device without a bus.
    fn new(kind: &str, properties: &Properties<'_>, mechanism: Mechanism) -> Option<Self> {
        let text = |name| Some(properties.get(name)?.as_str()?.to_owned());
        let address = properties.get("addr").and_then(Value::as_i64);
        let address = address.and_then(|devfn| u8::try_from(devfn).ok());
        let hotplug = match mechanism {
            Mechanism::Acpi => properties.get(PORT_HOTPLUG),
            Mechanism::Native => [PORT_HOTPLUG, BRIDGE_HOTPLUG]
                .iter()
                .find_map(|name| properties.get(name)),
        };
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

/// Returns `None` if the object or the property does not exist.
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
