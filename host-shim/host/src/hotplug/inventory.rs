//! What is plugged into a machine, by its object model.
//!
//! `query-pci` hides what is behind a bridge until firmware has numbered it; QOM never does.

use std::collections::HashMap;

use patchbay_types::failure::Failure;
use patchbay_types::{MacAddr, PciAddress, PciPath};
use serde::Serialize;
use serde_json::Value;

use crate::qmp::command::{QomGet, QomList, QueryPci};
use crate::qmp::{Error, Session};

/// Where QEMU keeps devices: those with an id by that id, the others numbered.
const FOLDERS: [&str; 2] = ["/machine/peripheral", "/machine/peripheral-anon"];
/// What the paths of devices with an id begin with.
pub(super) const NAMED: &str = "/machine/peripheral/";
/// The root bus of the `pc` machine: the only one that takes cards while it runs.
const PC_ROOT: &str = "/machine/i440fx";

/// The PCI devices of a machine.
#[derive(Debug, Default)]
pub struct Device {
    /// Its type, as `-device` spells it.
    pub kind: String,
    /// QOM path of the bus on which it sits.
    pub bus: String,
    pub address: Option<PciAddress>,
    /// Whether the bus that it makes takes cards while the machine runs.
    pub takes_cards: bool,
    mac: Option<MacAddr>,
    netdev: Option<String>,
}

/// A network card of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// QEMU's id, empty for one without.
    pub id: String,
    pub mac: MacAddr,
    pub path: Option<PciPath>,
    pub netdev: Option<String>,
}

/// How the guest is told of cards that come and go behind ports and bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// By ACPI events: a card goes within 0.4 s.
    Acpi,
    /// By the port's or the bridge's own controller, which waits 5 s for an operator at an attention
    /// button: a card goes in about 6 s.
    #[default]
    Native,
}

/// What is plugged into a machine.
#[derive(Debug, Default)]
pub struct Inventory {
    /// By QOM path.
    devices: HashMap<String, Device>,
    /// Slots taken on a root bus that takes cards; `None` where the machine has no such bus.
    pub root_slots: Option<Vec<u8>>,
    mechanism: Mechanism,
}

impl Inventory {
    /// Reads the machine.
    pub fn read(qmp: &mut Session) -> Result<Self, Error> {
        let _phase = tracing::info_span!("inventory").entered();
        let acpi = Acpi::read(qmp)?;
        let mut inventory = Self {
            mechanism: acpi.behind_bridges,
            ..Self::default()
        };
        let children = children(qmp)?;
        inventory.devices = devices(qmp, &children, acpi.behind_bridges)?;
        let has_root = absent_is_none(qmp.run(&QomList { path: PC_ROOT }))?.is_some();
        if has_root && acpi.on_root_bus {
            let buses = qmp.run(&QueryPci {})?;
            let root = buses.into_iter().filter(|bus| bus.bus == 0);
            let slots = root.flat_map(|bus| bus.devices).map(|device| device.slot);
            inventory.root_slots = Some(slots.collect());
        }
        Ok(inventory)
    }

    /// The network cards whose ids begin with this, and nothing else of the machine: each question
    /// takes its third of a millisecond.
    pub fn read_nics(qmp: &mut Session, prefix: &str) -> Result<Vec<Nic>, Error> {
        let _phase = tracing::info_span!("inventory").entered();
        let children = children(qmp)?;
        let some = |wanted: &dyn Fn(&str) -> bool| -> Vec<Child> {
            let wanted = children.iter().filter(|(path, _)| wanted(path));
            wanted.cloned().collect()
        };
        let mut inventory = Self::default();
        let named = format!("{NAMED}{prefix}");
        let mut wave = some(&|path| path.starts_with(&named));
        while !wave.is_empty() {
            let found = devices(qmp, &wave, inventory.mechanism)?;
            inventory.devices.extend(found);
            // The way to a card is that of the bridges before it.
            wave = some(&|path| {
                let makes = |device: &Device| owner(&device.bus) == Some(path);
                !inventory.devices.contains_key(path) && inventory.devices.values().any(makes)
            });
        }
        Ok(inventory.nics())
    }

    /// The network cards, by MAC address.
    pub fn nics(&self) -> Vec<Nic> {
        let mut nics: Vec<Nic> = self
            .devices
            .iter()
            .filter_map(|(path, device)| {
                let id = path
                    .strip_prefix(FOLDERS[0])
                    .map(|id| id.trim_start_matches('/'));
                Some(Nic {
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

    /// How the guest is told of cards, but for those on the root bus of a `pc`, which has ACPI only.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The devices by their QOM path.
    pub fn devices(&self) -> impl Iterator<Item = (&String, &Device)> {
        self.devices.iter()
    }

    /// The way from the root bus to a device.
    pub fn path(&self, device: &Device) -> Option<PciPath> {
        let mut steps = vec![device.address?];
        let mut bus = &device.bus;
        // A bus is named below the device that makes it; the host bridge is none of the devices.
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

    /// A machine without QEMU, for the tests of this room.
    #[cfg(test)]
    pub fn of(devices: &[(&str, &str, &str, u8)], root_slots: Option<Vec<u8>>) -> Self {
        let device = |(path, kind, bus, devfn): &(&str, &str, &str, u8)| {
            let device = Device {
                kind: (*kind).to_owned(),
                bus: (*bus).to_owned(),
                address: Some(PciAddress::from_devfn(*devfn)),
                takes_cards: true,
                ..Device::default()
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

/// What ACPI does for hot-plug. QEMU's defaults depend on its version and on the machine's.
struct Acpi {
    behind_bridges: Mechanism,
    /// On the root bus of a `pc`.
    on_root_bus: bool,
}

impl Acpi {
    fn read(qmp: &mut Session) -> Result<Self, Error> {
        // Arm's machines have no such device, or one that knows nothing of PCI.
        let Some(path) = text(qmp, "/machine", "acpi-device")? else {
            return Ok(Self {
                behind_bridges: Mechanism::Native,
                on_root_bus: true,
            });
        };
        let mut says = |property| -> Result<Option<bool>, Error> {
            Ok(get(qmp, &path, property)?.and_then(|value| value.as_bool()))
        };
        let behind_bridges = says("acpi-pci-hotplug-with-bridge-support")?;
        Ok(Self {
            behind_bridges: match behind_bridges {
                Some(true) => Mechanism::Acpi,
                _ => Mechanism::Native,
            },
            // A switch that QEMU before 5.2 doesn't have.
            on_root_bus: says("acpi-root-pci-hotplug")?.unwrap_or(true),
        })
    }
}

/// The device that makes a bus.
fn owner(bus: &str) -> Option<&str> {
    bus.rsplit_once('/').map(|(owner, _)| owner)
}

/// Path and type of a device.
type Child = (String, String);

/// What there is on the buses of the machine.
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

/// These devices, by their paths.
fn devices(
    qmp: &mut Session,
    children: &[Child],
    mechanism: Mechanism,
) -> Result<HashMap<String, Device>, Error> {
    let questions: Vec<QomGet<'_>> = children
        .iter()
        .flat_map(|(path, kind)| {
            let properties = properties(kind, mechanism).into_iter();
            properties.map(move |property| QomGet { path, property })
        })
        .collect();
    let mut answers = questions.iter().zip(qmp.run_all(&questions)?).peekable();
    let mut devices = HashMap::new();
    for (path, kind) in children {
        let mut device = Properties::new();
        while let Some((question, answer)) = answers.next_if(|(of, _)| of.path == path) {
            let answer = absent_is_none(answer)?;
            device.extend(answer.map(|value| (question.property, value)));
        }
        let device = Device::new(kind, &device);
        devices.extend(device.map(|device| (path.clone(), device)));
    }
    Ok(devices)
}

/// The properties that matter of a device of this type.
fn properties(kind: &str, mechanism: Mechanism) -> Vec<&'static str> {
    let mut properties = vec!["parent_bus", "addr"];
    properties.extend(match (kind, mechanism) {
        ("pcie-root-port" | "ioh3420", _) => Some(SWITCHES[0]),
        // Without ACPI only its own controller can take a card.
        ("pci-bridge" | "pcie-pci-bridge", Mechanism::Native) => Some(SWITCHES[1]),
        _ => None,
    });
    if kind.contains("net") {
        properties.extend(["mac", "netdev"]);
    }
    properties
}

/// What of a device says whether its bus takes cards while the machine runs.
const SWITCHES: [&str; 2] = ["hotplug", "shpc"];

/// Of one device: those that it has.
type Properties<'a> = HashMap<&'a str, Value>;

impl Device {
    /// `None` for what sits on no bus.
    fn new(kind: &str, properties: &Properties<'_>) -> Option<Self> {
        let text = |name| Some(properties.get(name)?.as_str()?.to_owned());
        let address = properties.get("addr").and_then(Value::as_i64);
        let address = address.and_then(|devfn| u8::try_from(devfn).ok());
        let switch = SWITCHES.iter().find_map(|name| properties.get(name));
        Some(Self {
            kind: kind.to_owned(),
            bus: text("parent_bus")?,
            address: address.map(PciAddress::from_devfn),
            takes_cards: switch.and_then(Value::as_bool).unwrap_or(true),
            mac: text("mac").and_then(|mac| mac.parse().ok()),
            netdev: text("netdev"),
        })
    }
}

fn text(qmp: &mut Session, path: &str, property: &str) -> Result<Option<String>, Error> {
    let value = get(qmp, path, property)?;
    Ok(value.and_then(|value| Some(value.as_str()?.to_owned())))
}

/// A property, or `None` where the object has none of that name or has gone meanwhile.
fn get(qmp: &mut Session, path: &str, property: &str) -> Result<Option<Value>, Error> {
    absent_is_none(qmp.run(&QomGet { path, property }))
}

fn absent_is_none<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Error::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What of the machine stands against a new card.
impl Inventory {
    /// # Errors
    /// A MAC address that a card of the machine has already.
    pub fn refuse_duplicate(&self, mac: MacAddr) -> Result<(), Failure> {
        use patchbay_types::failure::Kind;
        match self.nics().into_iter().find(|nic| nic.mac == mac) {
            Some(nic) => {
                let sentence = format!(
                    "hwAddr '{mac}' belongs to the card '{}' of this sandbox",
                    nic.id
                );
                Err(Failure::new(Kind::Exists, sentence).with_field("hwAddr"))
            }
            None => Ok(()),
        }
    }
}
