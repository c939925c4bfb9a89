//! JSON documents of kata-runtime.

mod document;
mod family;
pub(crate) mod neighbor;
pub(crate) mod network;
pub(crate) mod route;
mod stdin;
#[cfg(test)]
mod tests;
mod unknown_keys;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use patchbay_host::card::{Backend, BridgePort, CardRequest, Listener, PlugRequest};
use patchbay_host::json::Object;
use patchbay_host::mirror::{self, MirrorRequest};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AdminState, Arp, FieldError, InterfaceAddress, InvalidValue, LinkChange, LinkFields, LinkFlags,
    LinkSpec, Mtu, Promisc, QueuePairs,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::kata_messages::FIXED_FIELD;
use document::Document;
use family::FamilyText;
use neighbor::NeighborDocument;
pub(crate) use stdin::stdin;

/// `IFF_NOARP` in `rawFlags` (`linux/if.h`).
pub(crate) const IFF_NOARP: u32 = 1 << 7;

/// Interface document of `add-iface`, `del-iface` and `update-iface`, of which only the JSON types
/// have been checked. As in Go, an absent member is the same as an empty one or 0.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct InterfaceDocument {
    device: String,
    name: String,
    /// Absent and empty differ in `update-iface`: an empty array removes all addresses.
    #[serde(rename = "IPAddresses")]
    #[cfg_attr(test, schemars(with = "Option<Vec<AddressDocument>>"))]
    addresses: Option<Vec<Option<Object<AddressDocument>>>>,
    mtu: u64,
    #[serde(rename = "hwAddr")]
    mac: String,
    /// In Kata 2 and 3 `type`, in runtime-rs `field_type`.
    #[serde(alias = "type", alias = "field_type")]
    link_type: String,
    vhost_user_socket: String,
    /// QEMU's role on the socket: `client`, which is the default, or `server`. Not in kata.
    vhost_user_mode: String,
    queues: u32,
    raw_flags: u32,
    /// Enables duplicate address detection for IPv6 addresses. Not in kata, which disables it.
    dad: bool,
    /// Only in the output of `add-iface`, which can be fed back.
    #[cfg_attr(test, schemars(with = "serde_json::Value"))]
    pci_addr: IgnoredAny,
    /// Static neighbors. In Kata a separate call.
    #[cfg_attr(test, schemars(with = "Vec<NeighborDocument>"))]
    neighbors: Vec<Object<NeighborDocument>>,
    /// Link of the sandbox's network namespace that the card replaces. Not in kata.
    link: String,
    /// Bridge of the sandbox's network namespace or of the host's that the TAP is put into. Not in kata.
    bridge: String,
    /// Whether the interface is up, as it is by default. Not in kata.
    up: Option<bool>,
    /// Promiscuous mode; it is left as it is if absent. Not in kata.
    promisc: Option<bool>,
}

/// Member of `IPAddresses`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AddressDocument {
    address: String,
    mask: String,
    family: Option<FamilyText>,
    /// Keeps the kernel from making a route to the network. Not in kata.
    #[serde(rename = "noPrefixRoute")]
    no_prefix_route: bool,
}

/// Reads the interface document at `path`, or from standard input for `-`.
pub(crate) fn interface(path: &Path) -> Result<InterfaceDocument, Failure> {
    InterfaceDocument::of(&Document::read(path)?)
}

impl InterfaceDocument {
    fn of(document: &Document) -> Result<Self, Failure> {
        document.object("interface")
    }

    /// Returns the name of the interface in the guest.
    pub(crate) fn name<Name: FromStr<Err = InvalidValue>>(&self) -> Result<Name, Failure> {
        required(&self.name, "name")
    }

    /// Returns the addresses to whose network the kernel makes no route.
    fn without_prefix_route(&self) -> HashSet<IpAddr> {
        let addresses = self.addresses.iter().flatten().flatten();
        let marked = addresses.filter(|Object(address)| address.no_prefix_route);
        marked
            .filter_map(|Object(address)| address.address.trim().parse().ok())
            .collect()
    }

    /// Returns the request for a card, or to mirror a link.
    ///
    /// # Errors
    /// A key that a card can't have, or that a link determines.
    pub(crate) fn request(self) -> Result<PlugRequest, Failure> {
        if self.link.is_empty() {
            return CardRequest::try_from(self).map(PlugRequest::Card);
        }
        let determined = [
            ("device", !self.device.is_empty()),
            ("hwAddr", !self.mac.is_empty()),
            ("mtu", self.mtu != 0),
            (
                "IPAddresses",
                self.addresses.as_ref().is_some_and(|list| !list.is_empty()),
            ),
            ("vhostUserSocket", !self.vhost_user_socket.is_empty()),
            ("neighbors", !self.neighbors.is_empty()),
            ("rawFlags", self.raw_flags != 0),
            ("dad", self.dad),
            ("bridge", !self.bridge.is_empty()),
            ("up", self.up.is_some()),
            ("promisc", self.promisc.is_some()),
        ];
        if let Some((field, _)) = determined.iter().find(|(_, is_given)| *is_given) {
            let message = format!("{field} can't be given with link, which determines it");
            return Err(Failure::new(Kind::Invalid, message).with_field(field));
        }
        let link = required(&self.link, "link")?;
        let name = match self.name.as_str() {
            "" => mirror::default_name(&link)?,
            _ => self.name()?,
        };
        Ok(PlugRequest::Mirror(MirrorRequest {
            queues: queues(self.queues)?,
            ..MirrorRequest::new(link, name)
        }))
    }

    /// Returns the backend: a TAP device, or a vhost-user socket if there is one. As in kata, QEMU is
    /// the client unless the mode changes that.
    fn backend(&self) -> Result<Backend, FieldError> {
        let (socket, mode) = (
            self.vhost_user_socket.as_str(),
            self.vhost_user_mode.as_str(),
        );
        let invalid_mode = |rule| Err(InvalidValue::new(mode, rule).in_field("vhostUserMode"));
        let listener = match mode {
            "" if socket.is_empty() && self.bridge.is_empty() => return Ok(Backend::Tap),
            "" if socket.is_empty() => {
                let bridge = self.bridge.parse();
                let bridge = bridge.map_err(|invalid: InvalidValue| invalid.in_field("bridge"))?;
                return Ok(Backend::Bridge(BridgePort { bridge }));
            }
            _ if socket.is_empty() => return invalid_mode("it needs a vhostUserSocket"),
            "" | "client" => Listener::Backend,
            "server" => Listener::Qemu,
            _ => return invalid_mode("it must be client or server"),
        };
        if !self.bridge.is_empty() {
            let rule = "a card with a vhostUserSocket has no TAP device";
            return Err(InvalidValue::new(&self.bridge, rule).in_field("bridge"));
        }
        let socket = socket.parse();
        let socket = socket.map_err(|invalid: InvalidValue| invalid.in_field("vhostUserSocket"))?;
        Ok(Backend::VhostUser(socket, listener))
    }

    /// Returns the echo that kata prints when `del-iface` fails: without empty members and with a
    /// link type.
    pub(crate) fn echo(&self) -> Value {
        let addresses = self.addresses.iter().flatten().flatten();
        let address = |Object(a): &Object<AddressDocument>| {
            let family = a
                .family
                .as_ref()
                .map_or_else(|| json!(0), |given| json!(given));
            json!({"Family": family, "Address": a.address, "Mask": a.mask})
        };
        let link_type = if self.link_type.is_empty() {
            "tap"
        } else {
            &self.link_type
        };
        let members = [
            ("device", json!(self.device)),
            ("name", json!(self.name)),
            ("IPAddresses", addresses.map(address).collect()),
            ("mtu", json!(self.mtu)),
            ("hwAddr", json!(self.mac)),
            ("linkType", json!(link_type)),
        ];
        let empty = [json!(""), json!(0), json!([])];
        members
            .into_iter()
            .filter(|(_, value)| !empty.contains(value))
            .collect()
    }
}

fn required<T: FromStr<Err = InvalidValue>>(text: &str, field: &str) -> Result<T, Failure> {
    if text.is_empty() {
        return Err(FieldError::missing(field).into());
    }
    Ok(text
        .parse()
        .map_err(|invalid: InvalidValue| invalid.in_field(field))?)
}

impl TryFrom<InterfaceDocument> for CardRequest {
    type Error = Failure;

    fn try_from(document: InterfaceDocument) -> Result<Self, Failure> {
        if !["", "tap"].contains(&document.link_type.as_str()) {
            let rule = "only cards of type tap can be plugged";
            let invalid = InvalidValue::new(&document.link_type, rule);
            return Err(invalid.in_field("linkType").into());
        }
        let backend = document.backend()?;
        let no_arp = document.raw_flags & IFF_NOARP != 0;
        let link = LinkFields {
            name: document.name()?,
            mac: required(&document.mac, "hwAddr")?,
            mtu: mtu(document.mtu)?.ok_or_else(|| FieldError::missing("mtu"))?,
            addresses: read_addresses(document.addresses.as_deref().unwrap_or_default())?,
            queues: queues(document.queues)?,
            arp: if no_arp { Arp::Off } else { Arp::On },
        };
        let neighbors = neighbor::of_card(&document.neighbors, &link.name)?;
        let absent = document.without_prefix_route();
        let link = LinkSpec::new(link, "IPAddresses")?
            .with_dad(document.dad.into())
            .without_prefix_routes(|address| absent.contains(&address.ip()))
            .with_state(document.up.map_or(AdminState::Up, AdminState::from))
            .with_promisc(document.promisc.map(Promisc::from));
        Ok(Self {
            device: required(&document.device, "device")?,
            backend,
            link: link.with_neighbors(neighbors, "neighbors")?,
        })
    }
}

/// Returns the number of queue pairs, `None` for 0.
fn queues(pairs: u32) -> Result<Option<QueuePairs>, FieldError> {
    match pairs {
        0 => Ok(None),
        pairs => QueuePairs::try_from(u64::from(pairs))
            .map(Some)
            .map_err(|invalid| invalid.in_field("queues")),
    }
}

/// Returns the MTU, `None` for 0.
fn mtu(bytes: u64) -> Result<Option<Mtu>, FieldError> {
    match bytes {
        0 => Ok(None),
        bytes => Mtu::try_from(bytes)
            .map(Some)
            .map_err(|invalid| invalid.in_field("mtu")),
    }
}

impl TryFrom<InterfaceDocument> for LinkChange {
    type Error = Failure;

    fn try_from(document: InterfaceDocument) -> Result<Self, Failure> {
        let name = document.name()?;
        if !document.without_prefix_route().is_empty() {
            let invalid = InvalidValue::new("true", "only a new card can have it");
            return Err(invalid.in_field("noPrefixRoute").into());
        }
        let flags = LinkFlags {
            state: document.up.map(AdminState::from),
            promisc: document.promisc.map(Promisc::from),
            arp: None,
        };
        let InterfaceDocument {
            device,
            name: _,
            addresses,
            mtu: bytes,
            mac,
            link_type,
            vhost_user_socket,
            vhost_user_mode,
            queues,
            raw_flags: _,
            dad,
            pci_addr: _,
            neighbors,
            link,
            bridge,
            up: _,
            promisc: _,
        } = document;
        let unless_zero = |number: String| match number.as_str() {
            "0" => String::new(),
            _ => number,
        };
        let fixed = [
            ("device", device),
            ("hwAddr", mac),
            ("linkType", link_type),
            ("vhostUserSocket", vhost_user_socket),
            ("vhostUserMode", vhost_user_mode),
            ("queues", unless_zero(queues.to_string())),
            ("neighbors", unless_zero(neighbors.len().to_string())),
            ("link", link),
            ("bridge", bridge),
        ];
        if let Some((field, value)) = fixed.iter().find(|(_, value)| !value.is_empty()) {
            return Err(InvalidValue::new(value, FIXED_FIELD)
                .in_field(*field)
                .into());
        }
        let addresses = addresses
            .map(|documents| read_addresses(&documents))
            .transpose()?;
        let change = LinkChange::new(name, addresses, mtu(bytes)?, "IPAddresses")?;
        Ok(change.with_flags(flags).with_dad(dad.into()))
    }
}

fn read_addresses(
    documents: &[Option<Object<AddressDocument>>],
) -> Result<Vec<InterfaceAddress>, FieldError> {
    let read = |(index, document): (usize, &Option<Object<AddressDocument>>)| {
        let field = format!("IPAddresses[{index}]");
        let Some(Object(document)) = document else {
            let rule = "an address has the keys address and mask";
            return Err(InvalidValue::new("null", rule).in_field(field));
        };
        let (ip, prefix) = document.parts().map_err(|error| error.nested_in(&field))?;
        InterfaceAddress::new(ip, prefix).map_err(|invalid| invalid.in_field(field))
    };
    documents.iter().enumerate().map(read).collect()
}

impl AddressDocument {
    /// Returns the address and the prefix length, each checked alone.
    fn parts(&self) -> Result<(IpAddr, u8), FieldError> {
        let text = self.address.trim();
        for (field, text) in [("address", text), ("mask", &self.mask)] {
            if text.is_empty() {
                return Err(FieldError::missing(field));
            }
        }
        let invalid = |value: &str, rule: &'static str, field: &str| {
            InvalidValue::new(value, rule).in_field(field)
        };
        let ip: IpAddr = text
            .parse()
            .map_err(|_| invalid(text, "it must be an IPv4 or IPv6 address", "address"))?;
        let rule = "it must be the prefix length as decimal digits in a string";
        let prefix = prefix_length(&self.mask).ok_or_else(|| invalid(&self.mask, rule, "mask"))?;
        if let Some(family) = &self.family {
            family.check([ip]).map_err(|bad| bad.in_field("family"))?;
        }
        Ok((ip, prefix))
    }
}

/// Parses decimal digits; unlike `u8::from_str`, rejects a sign.
fn prefix_length(text: &str) -> Option<u8> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
