//! Model of QEMU: devices, backends, character devices and named descriptors of a q35 machine. Its TAP
//! descriptors are real ones.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, OwnedFd};

use serde_json::{Value, json};

use crate::monitor::Request;

/// State of the machine.
#[derive(Debug)]
pub(crate) struct Qemu {
    /// By id, those with an id only.
    pub(crate) devices: BTreeMap<String, Device>,
    pub(crate) netdevs: BTreeMap<String, Netdev>,
    pub(crate) descriptors: BTreeMap<String, OwnedFd>,
    pub(crate) chardevs: BTreeMap<String, Value>,
    hotplug: Hotplug,
}

/// Mechanism of hot-plug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hotplug {
    Acpi,
    Native,
}

/// Device of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    driver: String,
    /// Id of the port; empty: the root bus.
    pub(crate) bus: String,
    devfn: u8,
    pub(crate) mac: String,
    pub(crate) netdev: String,
    pub(crate) removal: Removal,
}

/// Removal of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    None,
    Requested,
}

/// Backend of a card.
#[derive(Debug)]
pub(crate) enum Netdev {
    User,
    Tap(Vec<OwnedFd>),
    VhostUser(String),
}

/// Number of root ports, of which the first has the card of another program.
const PORTS: u8 = 4;
/// Card of another program.
pub(crate) const OTHER: &str = "net0";

/// Error of a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    class: &'static str,
    text: String,
}

impl Refused {
    pub(crate) fn new(class: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { class, text }
    }

    fn generic(text: impl Into<String>) -> Self {
        Self::new("GenericError", text)
    }

    pub(crate) fn message(&self) -> Value {
        json!({"class": self.class, "desc": self.text})
    }
}

impl Qemu {
    pub(crate) fn new(hotplug: Hotplug) -> Self {
        let port = |number: u8| {
            let port = Device {
                driver: "pcie-root-port".to_owned(),
                bus: String::new(),
                devfn: (number + 1) << 3,
                mac: String::new(),
                netdev: String::new(),
                removal: Removal::None,
            };
            (format!("rp{number}"), port)
        };
        let mut devices: BTreeMap<_, _> = (0..PORTS).map(port).collect();
        let other = Device {
            driver: "virtio-net-pci".to_owned(),
            bus: "rp0".to_owned(),
            devfn: 0,
            mac: "02:00:00:00:00:99".to_owned(),
            netdev: "hostnet0".to_owned(),
            removal: Removal::None,
        };
        devices.insert(OTHER.to_owned(), other);
        Self {
            devices,
            netdevs: BTreeMap::from([("hostnet0".to_owned(), Netdev::User)]),
            descriptors: BTreeMap::new(),
            chardevs: BTreeMap::new(),
            hotplug,
        }
    }

    /// Lists the cards of patchbay.
    pub(crate) fn cards(&self) -> impl Iterator<Item = (&str, &Device)> {
        let cards = self.devices.iter();
        cards.filter_map(|(id, device)| Some((id.strip_prefix("pbd.")?, device)))
    }

    /// Returns the path of a device in the guest.
    pub(crate) fn path(&self, device: &Device) -> Vec<u8> {
        let port = self.devices.get(&device.bus);
        port.map(|port| port.devfn)
            .into_iter()
            .chain([device.devfn])
            .collect()
    }

    /// Carries a command out.
    pub(crate) fn execute(&mut self, request: &mut Request) -> Result<Value, Refused> {
        let id = request.text("id").to_owned();
        match request.command.as_str() {
            "query-status" => Ok(json!({"status": "running", "running": true})),
            "qmp_capabilities" | "announce-self" | "yank" => Ok(json!({})),
            "x-query-virtio-status" => Err(Refused::new("DeviceNotFound", "no such device")),
            "query-memdev" => Ok(json!([{"share": true}])),
            "query-chardev" => Ok(self.query_chardev()),
            "human-monitor-command" => Ok(self.info_network().into()),
            "qom-list" => self.qom_list(request.text("path")),
            "qom-get" => self.qom_get(request.text("path"), request.text("property")),
            "getfd" => {
                let name = request.text("fdname").to_owned();
                let fd = request.fd.take();
                let fd = fd.ok_or_else(|| Refused::generic("No file descriptor supplied"))?;
                self.descriptors.insert(name, fd);
                Ok(json!({}))
            }
            "closefd" => {
                let name = request.text("fdname");
                let closed = self.descriptors.remove(name).map(|_| json!({}));
                let absent = format!("File descriptor named '{name}' not found");
                closed.ok_or_else(|| Refused::generic(absent))
            }
            "netdev_add" => self.netdev_add(request),
            "netdev_del" => {
                let removed = self.netdevs.remove(&id).map(|_| json!({}));
                removed.ok_or_else(|| Refused::generic(format!("Device '{id}' not found")))
            }
            "chardev-add" => {
                self.chardevs
                    .insert(id, request.arguments["backend"].take());
                Ok(json!({}))
            }
            "chardev-remove" => {
                let mut users = self.netdevs.values();
                if users.any(|own| matches!(own, Netdev::VhostUser(chardev) if *chardev == id)) {
                    return Err(Refused::generic(format!("Chardev '{id}' is busy")));
                }
                let removed = self.chardevs.remove(&id).map(|_| json!({}));
                removed.ok_or_else(|| Refused::generic(format!("Chardev '{id}' not found")))
            }
            "device_add" => self.device_add(request),
            "device_del" => self.device_del(&id),
            other => Err(Refused::new(
                "CommandNotFound",
                format!("no command {other}"),
            )),
        }
    }

    fn query_chardev(&self) -> Value {
        let chardevs = self.chardevs.keys();
        chardevs
            .map(|id| json!({"label": id, "filename": "unix:"}))
            .collect()
    }

    fn info_network(&self) -> String {
        let lines = self.netdevs.iter().flat_map(|(id, netdev)| {
            let fds = match netdev {
                Netdev::Tap(fds) => &fds[..],
                Netdev::User | Netdev::VhostUser(_) => &[],
            };
            let line = move |(index, fd): (usize, &OwnedFd)| {
                format!("{id}: index={index},type=tap,fd={}\r\n", fd.as_raw_fd())
            };
            fds.iter().enumerate().map(line)
        });
        lines.collect()
    }

    fn qom_list(&self, path: &str) -> Result<Value, Refused> {
        let child = |(id, device): (&String, &Device)| json!({"name": id, "type": format!("child<{}>", device.driver)});
        match path {
            "/machine/peripheral" => Ok(self.devices.iter().map(child).collect()),
            "/machine/peripheral-anon" => Ok(json!([])),
            other => Err(Refused::new("DeviceNotFound", format!("no object {other}"))),
        }
    }

    fn qom_get(&self, path: &str, property: &str) -> Result<Value, Refused> {
        let absent = || Refused::generic(format!("Property '{path}.{property}' not found"));
        if self.hotplug == Hotplug::Acpi && path == "/machine" {
            return Ok("/machine/ich9".into());
        }
        if path == "/machine/ich9" {
            return Ok(true.into());
        }
        let id = path.strip_prefix("/machine/peripheral/");
        let unknown = || Refused::new("DeviceNotFound", format!("Device '{path}' not found"));
        let device = id.and_then(|id| self.devices.get(id)).ok_or_else(unknown)?;
        let is_card = !device.netdev.is_empty();
        match property {
            "parent_bus" if device.bus.is_empty() => Ok("/machine/q35/pcie.0".into()),
            "parent_bus" => {
                let bus = &device.bus;
                Ok(format!("/machine/peripheral/{bus}/{bus}").into())
            }
            "addr" => Ok(device.devfn.into()),
            "hotplug" if !is_card => Ok(true.into()),
            "mac" if is_card => Ok(device.mac.clone().into()),
            "netdev" if is_card => Ok(device.netdev.clone().into()),
            _ => Err(absent()),
        }
    }

    fn netdev_add(&mut self, request: &Request) -> Result<Value, Refused> {
        let id = request.text("id").to_owned();
        if self.netdevs.contains_key(&id) {
            return Err(Refused::generic(format!("Duplicate ID '{id}' for netdev")));
        }
        let netdev = if request.text("type") == "vhost-user" {
            let chardev = request.text("chardev").to_owned();
            if !self.chardevs.contains_key(&chardev) {
                return Err(Refused::generic(format!(
                    "chardev \"{chardev}\" is missing"
                )));
            }
            Netdev::VhostUser(chardev)
        } else {
            let mut taken = Vec::new();
            for name in request.text("fds").split(':') {
                let fd = self.descriptors.remove(name);
                let absent = format!("File descriptor named '{name}' has not been found");
                taken.push(fd.ok_or_else(|| Refused::generic(absent))?);
            }
            Netdev::Tap(taken)
        };
        self.netdevs.insert(id, netdev);
        Ok(json!({}))
    }

    fn device_add(&mut self, request: &Request) -> Result<Value, Refused> {
        let [id, bus, netdev] = ["id", "bus", "netdev"].map(|key| request.text(key).to_owned());
        if self.devices.contains_key(&id) {
            return Err(Refused::generic(format!("Duplicate device ID '{id}'")));
        }
        if !self.netdevs.contains_key(&netdev) {
            return Err(Refused::generic(format!(
                "Property can't find value '{netdev}'"
            )));
        }
        let mut devices = self.devices.values();
        if let Some(user) = devices.find(|device| device.bus == bus || device.netdev == netdev) {
            return Err(Refused::generic(format!("in use by the card {}", user.mac)));
        }
        let device = Device {
            driver: request.text("driver").to_owned(),
            bus,
            devfn: 0,
            mac: request.text("mac").to_owned(),
            netdev,
            removal: Removal::None,
        };
        self.devices.insert(id, device);
        Ok(json!({}))
    }

    fn device_del(&mut self, id: &str) -> Result<Value, Refused> {
        let absent = || Refused::new("DeviceNotFound", format!("Device '{id}' not found"));
        let device = self.devices.get_mut(id).ok_or_else(absent)?;
        if device.removal == Removal::Requested {
            let text = format!("Device {id} is already in the process of unplug");
            return Err(Refused::generic(text));
        }
        device.removal = Removal::Requested;
        Ok(json!({}))
    }
}
