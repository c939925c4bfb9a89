//! The incumbent's JSON: what was written, and what it means.

mod document;
pub(crate) mod route;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::Path;

use patchbay_host::card::{Backend, CardRequest, Listener};
use patchbay_types::failure::Failure;
use patchbay_types::{
    Arp, DadPolicy, FieldError, IfName, InterfaceAddress, InvalidValue, LinkChange, LinkFields,
    LinkSpec, MacAddr, Mtu, QueuePairs,
};
use serde::Deserialize;
use serde_json::Value;

use document::Document;

/// `IFF_NOARP` in `rawFlags` (`linux/if.h`).
const IFF_NOARP: u32 = 1 << 7;

/// An interface as it was written, nothing checked but JSON types.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawInterface {
    pub(crate) device: Option<String>,
    pub(crate) name: Option<String>,
    #[serde(rename = "IPAddresses")]
    pub(crate) addresses: Option<Vec<Option<RawAddress>>>,
    pub(crate) mtu: Option<u64>,
    #[serde(rename = "hwAddr")]
    pub(crate) mac: Option<String>,
    pub(crate) link_type: Option<String>,
    pub(crate) vhost_user_socket: Option<String>,
    /// Our own: which side listens on the socket.
    pub(crate) vhost_user_mode: Option<String>,
    pub(crate) queues: Option<u32>,
    pub(crate) raw_flags: Option<u32>,
    /// Our own: whether duplicates of its IPv6 addresses are looked for.
    pub(crate) dad: Option<bool>,
}

/// An address as it was written.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RawAddress {
    pub(crate) address: Option<String>,
    pub(crate) mask: Option<String>,
    pub(crate) family: Option<u32>,
}

/// Reads the interface at the path, or from standard input for `-`.
pub(crate) fn interface(path: &Path) -> Result<RawInterface, Failure> {
    of(&Document::read(path)?)
}

fn of(document: &Document) -> Result<RawInterface, Failure> {
    match document.value() {
        Value::Object(_) => document.read_as(document.value(), "interface"),
        _ => Err(document.holds_no("interface", "a JSON object is needed")),
    }
}

/// A mandatory text; Go can't tell absent from empty, and scripts rely on neither.
fn given(text: Option<String>, field: &str) -> Result<String, FieldError> {
    text.filter(|text| !text.is_empty())
        .ok_or_else(|| InvalidValue::new("", "it must be given").in_field(field))
}

/// The name by which `del-iface` goes.
pub(crate) fn name(raw: &RawInterface) -> Result<IfName, FieldError> {
    given(raw.name.clone(), "name")?
        .parse()
        .map_err(|bad: InvalidValue| bad.in_field("name"))
}

impl TryFrom<RawInterface> for CardRequest {
    type Error = Failure;

    fn try_from(raw: RawInterface) -> Result<Self, Failure> {
        let RawInterface {
            device,
            name: _,
            addresses,
            mtu,
            mac,
            link_type,
            vhost_user_socket,
            vhost_user_mode,
            queues,
            raw_flags,
            dad,
        } = &raw;
        let link_type = link_type.as_deref().unwrap_or_default();
        if !["", "tap"].contains(&link_type) {
            let rule = "only cards of type tap can be plugged";
            return Err(InvalidValue::new(link_type, rule)
                .in_field("linkType")
                .into());
        }
        let backend = backend(vhost_user_socket.as_deref(), vhost_user_mode.as_deref())?;
        let device = given(device.clone(), "device")?;
        let mac = given(mac.clone(), "hwAddr")?;
        let mtu = mtu.filter(|mtu| *mtu != 0);
        let mtu = mtu.ok_or_else(|| InvalidValue::new("0", "it must be given").in_field("mtu"))?;
        let queues = queues
            .filter(|queues| *queues != 0)
            .map(|q| QueuePairs::try_from(u64::from(q)));
        let no_arp = raw_flags.unwrap_or_default() & IFF_NOARP != 0;
        let parts = LinkFields {
            name: name(&raw)?,
            mac: mac
                .parse::<MacAddr>()
                .map_err(|bad| bad.in_field("hwAddr"))?,
            mtu: Mtu::try_from(mtu).map_err(|bad| bad.in_field("mtu"))?,
            addresses: read_addresses(addresses.as_deref().unwrap_or_default())?,
            queues: queues.transpose().map_err(|bad| bad.in_field("queues"))?,
            arp: if no_arp { Arp::Off } else { Arp::On },
        };
        Ok(Self {
            device: device
                .parse()
                .map_err(|bad: InvalidValue| bad.in_field("device"))?,
            backend,
            link: LinkSpec::new(parts, "IPAddresses")?.with_dad(duplicates(*dad)),
        })
    }
}

/// Without a socket it is a TAP. The incumbent's QEMU is always the client.
fn backend(socket: Option<&str>, mode: Option<&str>) -> Result<Backend, FieldError> {
    let mode = mode.filter(|mode| !mode.is_empty());
    let Some(socket) = socket.filter(|socket| !socket.is_empty()) else {
        return match mode {
            Some(mode) => {
                let rule = "it goes with a vhostUserSocket alone";
                Err(InvalidValue::new(mode, rule).in_field("vhostUserMode"))
            }
            None => Ok(Backend::Tap),
        };
    };
    let listener = match mode {
        None | Some("client") => Listener::Backend,
        Some("server") => Listener::Qemu,
        Some(other) => {
            let rule = "QEMU is the client of the backend's socket or its server";
            return Err(InvalidValue::new(other, rule).in_field("vhostUserMode"));
        }
    };
    let socket = socket
        .parse()
        .map_err(|bad: InvalidValue| bad.in_field("vhostUserSocket"))?;
    Ok(Backend::VhostUser(socket, listener))
}

/// The incumbent never looks for duplicates, and waits for nobody: so unless that is asked.
fn duplicates(dad: Option<bool>) -> DadPolicy {
    dad.unwrap_or_default().into()
}

impl TryFrom<RawInterface> for LinkChange {
    type Error = FieldError;

    fn try_from(raw: RawInterface) -> Result<Self, FieldError> {
        let name = name(&raw)?;
        let RawInterface {
            device,
            name: _,
            addresses,
            mtu,
            mac,
            link_type,
            vhost_user_socket,
            vhost_user_mode,
            queues,
            raw_flags: _,
            dad,
        } = raw;
        let queues = queues.filter(|queues| *queues != 0);
        let fixed = [
            ("device", device),
            ("hwAddr", mac),
            ("linkType", link_type),
            ("vhostUserSocket", vhost_user_socket),
            ("vhostUserMode", vhost_user_mode),
            ("queues", queues.map(|queues| queues.to_string())),
        ];
        for (field, value) in fixed {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let rule = "it should be 0 or empty: an update changes only IPAddresses and mtu";
                return Err(InvalidValue::new(&value, rule).in_field(field));
            }
        }
        let mtu = mtu.filter(|mtu| *mtu != 0).map(Mtu::try_from);
        let mtu = mtu.transpose().map_err(|bad| bad.in_field("mtu"))?;
        let addresses = addresses.map(|raw| read_addresses(&raw)).transpose()?;
        let change = LinkChange::new(name, addresses, mtu, "IPAddresses")?;
        Ok(change.with_dad(duplicates(dad)))
    }
}

fn read_addresses(raw: &[Option<RawAddress>]) -> Result<Vec<InterfaceAddress>, FieldError> {
    let one = |(index, raw): (usize, &Option<RawAddress>)| {
        let at = |part: &str| format!("IPAddresses[{index}]{part}");
        let raw = raw.as_ref().ok_or_else(|| {
            InvalidValue::new("null", "an address has the keys address and mask").in_field(at(""))
        })?;
        let text = raw.address.as_deref().unwrap_or_default().trim();
        let ip: IpAddr = text.parse().map_err(|_| {
            InvalidValue::new(text, "an address is IPv4 or IPv6 text").in_field(at(".address"))
        })?;
        let mask = raw.mask.as_deref().unwrap_or_default();
        // CounterFormat only: u8::from_str would take a sign.
        let digits = mask
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| mask.parse().ok());
        let prefix: u8 = digits.flatten().ok_or_else(|| {
            let rule = "a mask is the prefix length, in decimal digits as text";
            InvalidValue::new(mask, rule).in_field(at(".mask"))
        })?;
        let family = if ip.is_ipv4() { 2 } else { 10 };
        if raw
            .family
            .is_some_and(|given| given != 0 && given != family)
        {
            let rule = "a family is 2 for an IPv4 and 10 for an IPv6 address";
            let given = raw.family.unwrap_or_default().to_string();
            return Err(InvalidValue::new(&given, rule).in_field(at(".family")));
        }
        InterfaceAddress::new(ip, prefix).map_err(|bad| bad.in_field(at("")))
    };
    raw.iter().enumerate().map(one).collect()
}
