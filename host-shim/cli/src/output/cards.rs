//! Network cards as JSON and as rows of tables.

use patchbay_host::card::{Backend, CardRequest, Listener};
use patchbay_types::{Interface, InterfaceAddress, LinkChange, Mtu, PciPath, QueuePairs};
use serde::Serialize;

/// Card that `add-iface` or `nic add` plugged; keys and their order are those of kata.
#[derive(Debug, Serialize)]
pub(crate) struct AddedJson {
    device: String,
    name: String,
    #[serde(rename = "IPAddresses", skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<AddressJson>,
    mtu: u16,
    #[serde(rename = "hwAddr")]
    mac: String,
    #[serde(rename = "pciAddr")]
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<u16>,
    #[serde(rename = "vhostUserSocket", skip_serializing_if = "Option::is_none")]
    socket: Option<String>,
    #[serde(rename = "vhostUserMode", skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
}

impl AddedJson {
    pub(crate) fn new(request: &CardRequest, path: &PciPath) -> Self {
        let link = request.link.parts();
        let (socket, mode) = match &request.backend {
            Backend::Tap => (None, None),
            Backend::VhostUser(socket, Listener::Backend) => (Some(socket), None),
            Backend::VhostUser(socket, Listener::Qemu) => (Some(socket), Some("server")),
        };
        Self {
            device: request.device.to_string(),
            name: link.name.to_string(),
            addresses: addresses(&link.addresses),
            mtu: link.mtu.get(),
            mac: link.mac.to_string(),
            path: path.to_string(),
            queues: link.queues.map(QueuePairs::get),
            socket: socket.map(ToString::to_string),
            mode,
        }
    }
}

/// Address of an interface; `Family` is `AF_INET` or `AF_INET6`, `Mask` the prefix length.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AddressJson {
    family: u32,
    address: String,
    mask: String,
}

impl From<&InterfaceAddress> for AddressJson {
    fn from(address: &InterfaceAddress) -> Self {
        Self {
            family: if address.ip().is_ipv4() { 2 } else { 10 },
            address: address.ip().to_string(),
            mask: address.prefix().to_string(),
        }
    }
}

fn addresses(addresses: &[InterfaceAddress]) -> Vec<AddressJson> {
    addresses.iter().map(AddressJson::from).collect()
}

/// Card of `list-ifaces`; keys and their order are those of kata.
#[derive(Debug, Serialize)]
pub(crate) struct ListedJson {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ip: Vec<String>,
    mtu: u32,
}

impl From<Interface> for ListedJson {
    fn from(interface: Interface) -> Self {
        Self {
            name: interface.name,
            mac: interface.mac.map(|mac| mac.to_string()),
            ip: interface
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            mtu: interface.mtu,
        }
    }
}

/// Card of `nic list`.
#[derive(Debug, Serialize)]
pub(crate) struct CardJson {
    name: String,
    #[serde(rename = "hwAddr", skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    mtu: u32,
    up: bool,
    #[serde(rename = "IPAddresses")]
    addresses: Vec<AddressJson>,
    #[serde(rename = "pciAddr", skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<u16>,
}

impl From<Interface> for CardJson {
    fn from(interface: Interface) -> Self {
        Self {
            name: interface.name,
            mac: interface.mac.map(|mac| mac.to_string()),
            mtu: interface.mtu,
            up: interface.up,
            addresses: addresses(&interface.addresses),
            path: interface.path.map(|path| path.to_string()),
            queues: interface.queues.map(QueuePairs::get),
        }
    }
}

/// Change that `update-iface` or `nic set` made; keys are those of kata.
#[derive(Debug, Serialize)]
pub(crate) struct UpdatedJson {
    name: String,
    #[serde(rename = "IPAddresses", skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<AddressJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,
}

impl From<&LinkChange> for UpdatedJson {
    fn from(change: &LinkChange) -> Self {
        Self {
            name: change.name().to_string(),
            addresses: addresses(change.addresses().unwrap_or_default()),
            mtu: change.mtu().map(Mtu::get),
        }
    }
}
