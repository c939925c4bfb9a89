//! Network cards as JSON. Keys and their order are those of kata, except in `nic list`.

use patchbay_host::card::{Backend, Cable, CardRequest, HostSettings, Listener};
use patchbay_host::limit::Limit;
use patchbay_host::ops::{Card, Replacement};
use patchbay_host::vlan::VlanId;
use patchbay_types::{
    AdminState, Arp, InterfaceAddress, LinkChange, LinkFlags, LinkName, LinkSpec, ListedAddress,
    Mtu, PciPath, PrefixRoute, Promisc, QueuePairs, SocketPath,
};
use serde_json::{Value, json};

use super::json::without_nulls;
use super::neighbors;
use super::table::Column;

/// Columns of `nic add`.
pub(crate) const ADDED: &[Column] = &[
    Column::new("name"),
    Column::new("device"),
    Column::new("hwAddr"),
    Column::new("mtu"),
    Column::new("IPAddresses"),
    Column::new("pciAddr"),
    Column::new("queues"),
    Column::new("bridge"),
];

/// Columns of `nic list` and `nic apply`.
pub(crate) const CARDS: &[Column] = &[
    Column::new("name"),
    Column::new("hwAddr"),
    Column::new("mtu"),
    Column::new("up"),
    Column::new("IPAddresses"),
    Column::new("pciAddr"),
    Column::new("queues"),
    Column::new("guestName"),
    Column::new("state"),
];

/// Columns of `nic set`.
pub(crate) const UPDATED: &[Column] = &[
    Column::new("name"),
    Column::new("IPAddresses"),
    Column::new("mtu"),
    Column::new("up"),
    Column::new("arp"),
    Column::new("promisc"),
    Column::new("guestName"),
];

/// Columns of `nic set` with options of the host.
pub(crate) const ON_HOST: &[Column] = &[
    Column::new("name"),
    Column::new("cable"),
    Column::new("rxLimit"),
    Column::new("rxBurst"),
    Column::new("txLimit"),
    Column::new("txBurst"),
];

/// Columns of `nic set` with options of the device.
pub(crate) const REPLACED: &[Column] = &[
    Column::new("name"),
    Column::new("hwAddr"),
    Column::new("queues"),
];

/// Formats the card that `add-iface` or `nic add` plugged.
pub(crate) fn added(request: &CardRequest, path: &PciPath) -> Value {
    let link = request.link.parts();
    let (socket, mode) = vhost_user(&request.backend);
    without_nulls(json!({
        "device": request.device.to_string(),
        "name": link.name.as_str(),
        "IPAddresses": addresses_of(&request.link),
        "mtu": link.mtu.get(),
        "hwAddr": link.mac.to_string(),
        "pciAddr": path.to_string(),
        "queues": link.queues.map(QueuePairs::get),
        "vhostUserSocket": socket.map(ToString::to_string),
        "vhostUserMode": mode,
        "link": mirrored_link(&request.backend),
        "bridge": bridge(&request.backend),
        "neighbors": neighbors_of(&request.link),
    }))
}

/// Returns `vhostUserSocket` and `vhostUserMode` of a card.
pub(super) fn vhost_user(backend: &Backend) -> (Option<&SocketPath>, Option<&'static str>) {
    match backend {
        Backend::Tap | Backend::Bridge(_) | Backend::Link(_) => (None, None),
        Backend::VhostUser(socket, Listener::Backend) => (Some(socket), None),
        Backend::VhostUser(socket, Listener::Qemu) => (Some(socket), Some("server")),
    }
}

/// Formats a card of `list-ifaces`. The last two keys are in the output only if the card has another
/// name in the guest, or doesn't work as requested.
pub(crate) fn listed(card: &Card) -> Value {
    let interface = card.interface.as_ref();
    let addresses = interface.map(|interface| &interface.addresses);
    let addresses = addresses.filter(|addresses| !addresses.is_empty());
    let texts = |addresses: &Vec<ListedAddress>| -> Vec<String> {
        let addresses = addresses.iter();
        addresses.map(|found| found.address.to_string()).collect()
    };
    without_nulls(json!({
        "name": card.name.as_str(),
        "mac": mac(card),
        "ip": addresses.map(texts),
        "mtu": interface.map(|interface| interface.mtu),
        "guestName": card.other_name().map(ToString::to_string),
        "state": card.state.as_ref().map(ToString::to_string),
    }))
}

/// Formats a card of `nic list`.
pub(crate) fn card(card: &Card) -> Value {
    let interface = card.interface.as_ref();
    let addresses = interface.map(|interface| &interface.addresses);
    without_nulls(json!({
        "name": card.name.as_str(),
        "hwAddr": mac(card),
        "mtu": interface.map(|interface| interface.mtu),
        "up": interface.map(|interface| interface.up),
        "arp": interface.map(|interface| interface.arp == Arp::On),
        "promisc": interface.and_then(|interface| interface.promisc).map(is_on),
        "IPAddresses": addresses.map(|list| list.iter().map(|found| address(&found.address)).collect::<Value>()),
        "pciAddr": card.path.as_ref().map(ToString::to_string),
        "queues": interface.and_then(|interface| interface.queues.map(QueuePairs::get)),
        "guestName": card.other_name().map(ToString::to_string),
        "state": card.state.as_ref().map(ToString::to_string),
    }))
}

/// Returns the MAC address in the guest, or that of the device if it has no interface.
fn mac(card: &Card) -> Option<String> {
    let mac = match &card.interface {
        Some(interface) => interface.mac,
        None => Some(card.mac),
    };
    mac.map(|mac| mac.to_string())
}

/// Returns the name of the link that the card mirrors.
fn mirrored_link(backend: &Backend) -> Option<String> {
    match backend {
        Backend::Link(link) => Some(link.name().to_string()),
        Backend::Tap | Backend::Bridge(_) | Backend::VhostUser(..) => None,
    }
}

/// Returns the name of the bridge that the card's TAP is a port of.
pub(super) fn bridge(backend: &Backend) -> Option<String> {
    match backend {
        Backend::Bridge(port) => Some(port.bridge.to_string()),
        Backend::Tap | Backend::Link(_) | Backend::VhostUser(..) => None,
    }
}

/// Formats the neighbors of a card.
pub(super) fn neighbors_of(link: &LinkSpec) -> Value {
    neighbors::of_card(link.neighbors(), &link.parts().name)
}

/// Formats the addresses of a card; those without a prefix route have a key for that.
fn addresses_of(link: &LinkSpec) -> Value {
    let addresses = link.parts().addresses.iter().map(|own| {
        let mut object = address(own);
        if link.prefix_route(*own) == PrefixRoute::Absent {
            object["noPrefixRoute"] = json!(true);
        }
        object
    });
    let addresses: Vec<_> = addresses.collect();
    if addresses.is_empty() {
        Value::Null
    } else {
        addresses.into()
    }
}

/// Formats the change that `update-iface` or `nic set` made.
pub(crate) fn updated(change: &LinkChange) -> Value {
    let LinkFlags {
        state,
        arp,
        promisc,
    } = change.flags();
    without_nulls(json!({
        "name": change.name().to_string(),
        "IPAddresses": change.addresses().map_or(Value::Null, addresses_or_null),
        "mtu": change.mtu().map(Mtu::get),
        "up": state.map(|state| state == AdminState::Up),
        "arp": arp.map(|arp| arp == Arp::On),
        "promisc": promisc.map(is_on),
        "guestName": change.rename().map(ToString::to_string),
    }))
}

/// Formats promiscuous mode.
pub(super) fn is_on(promisc: Promisc) -> bool {
    promisc == Promisc::On
}

/// Formats the settings on the host after a change by `nic set`.
pub(crate) fn updated_on_host(name: &LinkName, settings: HostSettings) -> Value {
    let HostSettings {
        cable,
        receive,
        send,
        vlan,
    } = settings;
    let limit = |limit: Limit| limit.rate().map(|limit| limit.rate().get());
    let burst = |limit: Limit| limit.rate().map(|limit| limit.burst().get());
    without_nulls(json!({
        "name": name.to_string(),
        "cable": if cable == Cable::Up { "up" } else { "down" },
        "rxLimit": limit(receive),
        "rxBurst": burst(receive),
        "txLimit": limit(send),
        "txBurst": burst(send),
        "vlan": vlan.id().map(VlanId::get),
    }))
}

/// Formats the change of a card's device by `nic set`.
pub(crate) fn replaced(name: &LinkName, change: Replacement) -> Value {
    without_nulls(json!({
        "name": name.to_string(),
        "hwAddr": change.mac.map(|mac| mac.to_string()),
        "queues": change.queues.map(QueuePairs::get),
    }))
}

fn addresses_or_null(list: &[InterfaceAddress]) -> Value {
    if list.is_empty() {
        return Value::Null;
    }
    list.iter().map(address).collect()
}

/// Formats an address: `Family` is `AF_INET` or `AF_INET6`, `Mask` the prefix length.
fn address(address: &InterfaceAddress) -> Value {
    json!({
        "Family": if address.ip().is_ipv4() { 2 } else { 10 },
        "Address": address.ip(),
        "Mask": address.prefix().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updated_json_keeps_its_keys_in_order() {
        let address = InterfaceAddress::new("10.0.0.1".parse().unwrap(), 8).unwrap();
        let mtu = Mtu::try_from(1400).ok();
        let name = || "eth1".parse().unwrap();
        let change = LinkChange::new(name(), Some(vec![address]), mtu, "ip").unwrap();
        let json = r#"{"name":"eth1","IPAddresses":[{"Family":2,"Address":"10.0.0.1","Mask":"8"}],"mtu":1400}"#;
        assert_eq!(updated(&change).to_string(), json);
        let change = LinkChange::new(name(), Some(Vec::new()), mtu, "ip").unwrap();
        assert_eq!(
            updated(&change).to_string(),
            r#"{"name":"eth1","mtu":1400}"#
        );
    }
}
