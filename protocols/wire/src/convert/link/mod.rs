//! Interfaces: requests and listed ones.

mod flags;

use std::collections::HashSet;
use std::str::FromStr;

use super::{check_count, ip, ip_bytes, narrow, neighbor, unless_default};
use crate::proto::agent as wire;
use patchbay_types::{
    AddressDetail, AdminState, Arp, DadPolicy, FieldError, Interface, InterfaceAddress,
    InvalidValue, LinkChange, LinkFields, LinkFlags, LinkSpec, ListedAddress, MacAddr, Mtu, Owner,
    PciAddress, PciPath, PrefixRoute, QueuePairs,
};

impl From<&InterfaceAddress> for wire::Address {
    fn from(address: &InterfaceAddress) -> Self {
        Self {
            ip: ip_bytes(address.ip()),
            prefix: u32::from(address.prefix()),
            ..Self::default()
        }
    }
}

impl From<&ListedAddress> for wire::Address {
    fn from(listed: &ListedAddress) -> Self {
        Self {
            foreign: listed.owner == Owner::Other,
            ..(&listed.address).into()
        }
    }
}

fn addresses(wire: &[wire::Address]) -> Result<Vec<InterfaceAddress>, FieldError> {
    check_count(wire.len(), "addresses")?;
    let address = |(index, wire): (usize, &wire::Address)| {
        let field = format!("addresses[{index}]");
        let prefix = narrow(wire.prefix, &field)?;
        ip(&wire.ip)
            .and_then(|ip| InterfaceAddress::new(ip, prefix))
            .map_err(|invalid| invalid.in_field(field))
    };
    wire.iter().enumerate().map(address).collect()
}

fn listed_addresses(wire: &[wire::Address]) -> Result<Vec<ListedAddress>, FieldError> {
    let owner = |wire: &wire::Address| {
        if wire.foreign {
            Owner::Other
        } else {
            Owner::Patchbay
        }
    };
    let listed = |(address, wire)| ListedAddress {
        address,
        owner: owner(wire),
    };
    Ok(addresses(wire)?.into_iter().zip(wire).map(listed).collect())
}

fn name<T: FromStr<Err = InvalidValue>>(text: &str) -> Result<T, FieldError> {
    text.parse()
        .map_err(|bad: InvalidValue| bad.in_field("name"))
}

pub(super) fn mac(bytes: &[u8]) -> Result<MacAddr, FieldError> {
    let length = || format!("{} bytes", bytes.len());
    <[u8; 6]>::try_from(bytes)
        .map_err(|_| InvalidValue::new(&length(), "a MAC address has 6 bytes"))
        .and_then(MacAddr::try_from)
        .map_err(|invalid| invalid.in_field("mac"))
}

fn mtu(bytes: u32) -> Result<Mtu, FieldError> {
    Mtu::try_from(u64::from(bytes)).map_err(|invalid| invalid.in_field("mtu"))
}

pub(super) fn path_bytes(path: &PciPath) -> Vec<u8> {
    path.steps().iter().map(|step| step.devfn()).collect()
}

pub(super) fn path(bytes: &[u8]) -> Result<PciPath, FieldError> {
    PciPath::new(bytes.iter().copied().map(PciAddress::from_devfn).collect())
        .map_err(|invalid| invalid.in_field("pci_path"))
}

fn queues(pairs: u32) -> Result<Option<QueuePairs>, FieldError> {
    unless_default(pairs, |pairs| {
        QueuePairs::try_from(u64::from(pairs)).map_err(|invalid| invalid.in_field("queues"))
    })
}

fn queues_number(queues: Option<QueuePairs>) -> u32 {
    queues.map_or(0, |pairs| u32::from(pairs.get()))
}

/// Builds the request that configures the card at `path`. The caller sets `wait_ms` and `yielding`.
#[must_use]
pub fn configure_request(path: &PciPath, spec: &LinkSpec) -> wire::ConfigureInterfaceRequest {
    let LinkFields {
        name,
        mac,
        mtu,
        addresses,
        queues,
        arp,
    } = spec.parts();
    let address = |address: &InterfaceAddress| wire::Address {
        no_prefix_route: spec.prefix_route(*address) == PrefixRoute::Absent,
        ..address.into()
    };
    wire::ConfigureInterfaceRequest {
        pci_path: path_bytes(path),
        mac: mac.octets().to_vec(),
        name: name.to_string(),
        mtu: u32::from(mtu.get()),
        addresses: addresses.iter().map(address).collect(),
        queues: queues_number(*queues),
        no_arp: *arp == Arp::Off,
        detect_duplicates: spec.duplicates() == DadPolicy::Detect,
        neighbors: spec.neighbors().iter().map(neighbor::of_card).collect(),
        state: match spec.state() {
            AdminState::Up => 0,
            down @ AdminState::Down => flags::number(Some(down)),
        },
        promisc: flags::number(spec.promisc()),
        ..wire::ConfigureInterfaceRequest::default()
    }
}

impl TryFrom<&wire::ConfigureInterfaceRequest> for (PciPath, LinkSpec) {
    type Error = FieldError;

    fn try_from(request: &wire::ConfigureInterfaceRequest) -> Result<Self, FieldError> {
        let wire::ConfigureInterfaceRequest {
            pci_path,
            mac: mac_bytes,
            name: name_text,
            mtu: mtu_bytes,
            addresses: wire_addresses,
            queues: pairs,
            no_arp,
            wait_ms: _,
            detect_duplicates,
            yielding: _,
            neighbors,
            state,
            promisc,
            special_fields: _,
        } = request;
        let fields = LinkFields {
            name: name(name_text)?,
            mac: mac(mac_bytes)?,
            mtu: mtu(*mtu_bytes)?,
            addresses: addresses(wire_addresses)?,
            queues: queues(*pairs)?,
            arp: if *no_arp { Arp::Off } else { Arp::On },
        };
        let path = path(pci_path)?;
        let marked = fields.addresses.iter().zip(wire_addresses);
        let marked: HashSet<_> = marked
            .filter_map(|(address, wire)| wire.no_prefix_route.then_some(*address))
            .collect();
        let spec = LinkSpec::new(fields, "addresses")?
            .without_prefix_routes(|address| marked.contains(&address));
        let spec = spec.with_neighbors(neighbor::of_card_request(neighbors)?, "neighbors")?;
        let state = flags::read(*state, "state")?.unwrap_or(AdminState::Up);
        let spec = spec
            .with_state(state)
            .with_promisc(flags::read(*promisc, "promisc")?);
        Ok((path, spec.with_dad(DadPolicy::from(*detect_duplicates))))
    }
}

impl From<&Interface> for wire::Interface {
    fn from(interface: &Interface) -> Self {
        let Interface {
            index,
            name,
            mac,
            mtu,
            addresses,
            path,
            queues,
            up,
            arp,
            carrier,
            promisc,
        } = interface;
        Self {
            index: *index,
            name: name.to_string(),
            mac: mac.map(|mac| mac.octets().to_vec()).unwrap_or_default(),
            mtu: *mtu,
            addresses: addresses.iter().map(Into::into).collect(),
            pci_path: path.as_ref().map(path_bytes).unwrap_or_default(),
            queues: queues_number(*queues),
            up: *up,
            no_arp: *arp == Arp::Off,
            carrier: flags::number(*carrier),
            promisc: flags::number(*promisc),
            ..Self::default()
        }
    }
}

impl TryFrom<&wire::Interface> for Interface {
    type Error = FieldError;

    fn try_from(wire: &wire::Interface) -> Result<Self, FieldError> {
        let wire::Interface {
            index,
            name: name_text,
            mac: mac_bytes,
            mtu,
            addresses: wire_addresses,
            pci_path,
            queues: pairs,
            up,
            no_arp,
            carrier,
            promisc,
            special_fields: _,
        } = wire;
        Ok(Self {
            index: *index,
            name: name(name_text)?,
            mac: unless_default(mac_bytes.as_slice(), mac)?,
            mtu: *mtu,
            addresses: listed_addresses(wire_addresses)?,
            path: unless_default(pci_path.as_slice(), path)?,
            queues: queues(*pairs)?,
            up: *up,
            arp: if *no_arp { Arp::Off } else { Arp::On },
            // A state of a later agent is unknown.
            carrier: flags::read(*carrier, "carrier").unwrap_or(None),
            promisc: flags::read(*promisc, "promisc").unwrap_or(None),
        })
    }
}

/// Decodes a list of interfaces.
///
/// # Errors
/// More than 4096 interfaces, or an invalid one.
pub fn interfaces(reply: &wire::ListInterfacesReply) -> Result<Vec<Interface>, FieldError> {
    check_count(reply.interfaces.len(), "interfaces")?;
    reply.interfaces.iter().map(Interface::try_from).collect()
}

impl From<&wire::ListInterfacesRequest> for AddressDetail {
    fn from(request: &wire::ListInterfacesRequest) -> Self {
        if request.without_addresses {
            Self::Omitted
        } else {
            Self::Listed
        }
    }
}

impl From<&wire::UpdateInterfaceRequest> for AddressDetail {
    fn from(request: &wire::UpdateInterfaceRequest) -> Self {
        if request.without_addresses {
            Self::Omitted
        } else {
            Self::Listed
        }
    }
}

/// Builds the request that lists interfaces.
#[must_use]
pub fn interfaces_request(detail: AddressDetail) -> wire::ListInterfacesRequest {
    wire::ListInterfacesRequest {
        without_addresses: detail == AddressDetail::Omitted,
        ..wire::ListInterfacesRequest::default()
    }
}

/// Builds the request that changes an interface. The caller sets `without_addresses`.
#[must_use]
pub fn update_request(change: &LinkChange) -> wire::UpdateInterfaceRequest {
    let addresses = change.addresses();
    let LinkFlags {
        state,
        arp,
        promisc,
    } = change.flags();
    wire::UpdateInterfaceRequest {
        name: change.name().to_string(),
        set_addresses: addresses.is_some(),
        addresses: addresses.into_iter().flatten().map(Into::into).collect(),
        mtu: change.mtu().map_or(0, |mtu| u32::from(mtu.get())),
        detect_duplicates: change.duplicates() == DadPolicy::Detect,
        pci_path: change.card().map(path_bytes).unwrap_or_default(),
        state: flags::number(state),
        arp: flags::number(arp),
        promisc: flags::number(promisc),
        rename: change.rename().map(ToString::to_string).unwrap_or_default(),
        ..wire::UpdateInterfaceRequest::default()
    }
}

impl TryFrom<&wire::UpdateInterfaceRequest> for LinkChange {
    type Error = FieldError;

    fn try_from(request: &wire::UpdateInterfaceRequest) -> Result<Self, FieldError> {
        let wire::UpdateInterfaceRequest {
            name: name_text,
            set_addresses,
            addresses: wire_addresses,
            mtu: mtu_bytes,
            detect_duplicates,
            pci_path,
            without_addresses: _,
            state,
            arp,
            promisc,
            rename,
            special_fields: _,
        } = request;
        let addresses = set_addresses
            .then(|| addresses(wire_addresses))
            .transpose()?;
        let mtu = unless_default(*mtu_bytes, mtu)?;
        let card = unless_default(pci_path.as_slice(), path)?;
        let change = LinkChange::new(name(name_text)?, addresses, mtu, "addresses")?;
        let flags = LinkFlags {
            state: flags::read(*state, "state")?,
            arp: flags::read(*arp, "arp")?,
            promisc: flags::read(*promisc, "promisc")?,
        };
        let rename = unless_default(rename.as_str(), |text| {
            text.parse()
                .map_err(|invalid: InvalidValue| invalid.in_field("rename"))
        })?;
        let change = change.with_flags(flags).with_rename(rename).with_card(card);
        Ok(change.with_dad((*detect_duplicates).into()))
    }
}

#[cfg(test)]
mod tests;
