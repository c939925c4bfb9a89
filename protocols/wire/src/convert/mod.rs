//! Domain types to wire and back. Every conversion takes its source apart field by field, so that a
//! new field is a compile error here; every refusal names the field's path.

mod change;
pub mod conntrack;
pub mod ipvs;
mod route;

use std::net::IpAddr;

use crate::proto::agent as wire;
use patchbay_types::{
    Arp, DadPolicy, FieldError, IfName, Interface, InterfaceAddress, InvalidValue, LinkFields,
    LinkSpec, MacAddr, Mtu, PciAddress, PciPath, QueuePairs,
};

pub use change::update_request;
pub use route::{delete_request, patterns, routes, routes_reply, routes_request, specs};

/// Most interfaces and addresses that are taken from a guest in one answer.
const MAX_LISTED: usize = 4096;

impl From<&InterfaceAddress> for wire::Address {
    fn from(address: &InterfaceAddress) -> Self {
        Self {
            ip: ip_bytes(address.ip()),
            prefix: u32::from(address.prefix()),
            ..Self::default()
        }
    }
}

fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn ip(bytes: &[u8]) -> Result<IpAddr, InvalidValue> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::from(v4))
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(v6))
    } else {
        let length = format!("{} bytes", bytes.len());
        Err(InvalidValue::new(&length, "an address has 4 or 16 bytes"))
    }
}

fn prefix(bits: u32) -> Result<u8, InvalidValue> {
    u8::try_from(bits)
        .map_err(|_| InvalidValue::new(&bits.to_string(), "a prefix has at most 128 bits"))
}

fn address(wire: &wire::Address) -> Result<InterfaceAddress, InvalidValue> {
    InterfaceAddress::new(ip(&wire.ip)?, prefix(wire.prefix)?)
}

fn addresses(wire: &[wire::Address]) -> Result<Vec<InterfaceAddress>, FieldError> {
    if wire.len() > MAX_LISTED {
        let count = InvalidValue::new(&wire.len().to_string(), "at most 4096 are taken");
        return Err(count.in_field("addresses"));
    }
    let at = |index| move |bad: InvalidValue| bad.in_field(format!("addresses[{index}]"));
    wire.iter()
        .enumerate()
        .map(|(index, wire)| address(wire).map_err(at(index)))
        .collect()
}

fn mac(bytes: &[u8]) -> Result<MacAddr, InvalidValue> {
    let octets = <[u8; 6]>::try_from(bytes).map_err(|_| {
        InvalidValue::new(
            &format!("{} bytes", bytes.len()),
            "a MAC address has 6 bytes",
        )
    })?;
    MacAddr::try_from(octets)
}

fn path_bytes(path: &PciPath) -> Vec<u8> {
    path.steps().iter().map(|step| step.devfn()).collect()
}

fn path(bytes: &[u8]) -> Result<PciPath, InvalidValue> {
    PciPath::new(bytes.iter().copied().map(PciAddress::from_devfn).collect())
}

fn queues(pairs: u32) -> Result<Option<QueuePairs>, InvalidValue> {
    match pairs {
        0 => Ok(None),
        some => QueuePairs::try_from(u64::from(some)).map(Some),
    }
}

/// Where the card is and what it shall be; the time that it may take to appear is the caller's.
pub fn configure_request(path: &PciPath, spec: &LinkSpec) -> wire::ConfigureInterfaceRequest {
    let LinkFields {
        name,
        mac,
        mtu,
        addresses,
        queues,
        arp,
    } = spec.parts();
    wire::ConfigureInterfaceRequest {
        pci_path: path_bytes(path),
        mac: mac.octets().to_vec(),
        name: name.to_string(),
        mtu: u32::from(mtu.get()),
        addresses: addresses.iter().map(Into::into).collect(),
        queues: queues.map_or(0, |pairs| u32::from(pairs.get())),
        no_arp: *arp == Arp::Off,
        detect_duplicates: spec.duplicates() == DadPolicy::Detect,
        ..wire::ConfigureInterfaceRequest::default()
    }
}

impl TryFrom<&wire::ConfigureInterfaceRequest> for (PciPath, LinkSpec) {
    type Error = FieldError;

    fn try_from(request: &wire::ConfigureInterfaceRequest) -> Result<Self, FieldError> {
        let wire::ConfigureInterfaceRequest {
            pci_path,
            mac: mac_bytes,
            name,
            mtu,
            addresses: wire_addresses,
            queues: pairs,
            no_arp,
            wait_ms: _,
            detect_duplicates,
            special_fields: _,
        } = request;
        let parts = LinkFields {
            name: name.parse::<IfName>().map_err(|bad| bad.in_field("name"))?,
            mac: mac(mac_bytes).map_err(|bad| bad.in_field("mac"))?,
            mtu: Mtu::try_from(u64::from(*mtu)).map_err(|bad| bad.in_field("mtu"))?,
            addresses: addresses(wire_addresses)?,
            queues: queues(*pairs).map_err(|bad| bad.in_field("queues"))?,
            arp: if *no_arp { Arp::Off } else { Arp::On },
        };
        let path = path(pci_path).map_err(|bad| bad.in_field("pci_path"))?;
        let spec = LinkSpec::new(parts, "addresses")?;
        let duplicates = DadPolicy::from(*detect_duplicates);
        Ok((path, spec.with_dad(duplicates)))
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
        } = interface;
        Self {
            index: *index,
            name: name.clone(),
            mac: mac.map(|mac| mac.octets().to_vec()).unwrap_or_default(),
            mtu: *mtu,
            addresses: addresses.iter().map(Into::into).collect(),
            pci_path: path.as_ref().map(path_bytes).unwrap_or_default(),
            queues: queues.map_or(0, |pairs| u32::from(pairs.get())),
            up: *up,
            no_arp: *arp == Arp::Off,
            ..Self::default()
        }
    }
}

impl TryFrom<&wire::Interface> for Interface {
    type Error = FieldError;

    fn try_from(wire: &wire::Interface) -> Result<Self, FieldError> {
        let wire::Interface {
            index,
            name,
            mac: mac_bytes,
            mtu,
            addresses: wire_addresses,
            pci_path,
            queues: pairs,
            up,
            no_arp,
            special_fields: _,
        } = wire;
        if name.is_empty() || name.len() > 15 {
            let rule = "the kernel's names have 1 to 15 bytes";
            return Err(InvalidValue::new(name, rule).in_field("name"));
        }
        let some = |bytes: &[u8]| !bytes.is_empty();
        Ok(Self {
            index: *index,
            name: name.clone(),
            mac: some(mac_bytes)
                .then(|| mac(mac_bytes).map_err(|bad| bad.in_field("mac")))
                .transpose()?,
            mtu: *mtu,
            addresses: addresses(wire_addresses)?,
            path: some(pci_path)
                .then(|| path(pci_path).map_err(|bad| bad.in_field("pci_path")))
                .transpose()?,
            queues: queues(*pairs).map_err(|bad| bad.in_field("queues"))?,
            up: *up,
            arp: if *no_arp { Arp::Off } else { Arp::On },
        })
    }
}

/// Reads a guest's whole answer.
///
/// # Errors
/// More than 4096 interfaces, or one that breaks a rule.
pub fn interfaces(reply: &wire::ListInterfacesReply) -> Result<Vec<Interface>, FieldError> {
    let count = reply.interfaces.len();
    if count > MAX_LISTED {
        let bad = InvalidValue::new(&count.to_string(), "at most 4096 are taken");
        return Err(bad.in_field("interfaces"));
    }
    reply.interfaces.iter().map(Interface::try_from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use protobuf::Message;

    use super::*;

    prop_compose! {
        fn an_address()(ip: [u8; 16], short: bool, prefix in 0..=32u8) -> Option<InterfaceAddress> {
            let ip = if short { IpAddr::from([ip[0], ip[1], ip[2], ip[3]]) } else { IpAddr::from(ip) };
            InterfaceAddress::new(ip, prefix).ok()
        }
    }

    prop_compose! {
        fn a_spec()(
            name in "[A-Za-z][A-Za-z0-9_.-]{0,14}",
            mac: [u8; 5],
            mtu in 1280..=9600u64,
            addresses in vec(an_address(), 0..20),
            pairs in 0..=256u64,
            no_arp: bool,
        ) -> Option<LinkSpec> {
            LinkSpec::new(LinkFields {
                name: name.parse().unwrap(),
                mac: MacAddr::try_from([2, mac[0], mac[1], mac[2], mac[3], mac[4]]).unwrap(),
                mtu: Mtu::try_from(mtu).unwrap(),
                addresses: addresses.into_iter().flatten().collect(),
                queues: QueuePairs::try_from(pairs).ok(),
                arp: if no_arp { Arp::Off } else { Arp::On },
            }, "addresses").ok()
        }
    }

    proptest! {
        #[test]
        fn a_request_survives_the_wire(spec in a_spec(), devfns in vec(any::<u8>(), 1..=8)) {
            let Some(spec) = spec else { return Ok(()) };
            let path = path(&devfns).unwrap();
            let bytes = configure_request(&path, &spec).write_to_bytes().unwrap();
            let read = wire::ConfigureInterfaceRequest::parse_from_bytes(&bytes).unwrap();
            let back: (PciPath, LinkSpec) = (&read).try_into().unwrap();
            prop_assert_eq!(back, (path, spec));
        }

        #[test]
        fn an_interface_survives_the_wire(
            spec in a_spec(), devfns in vec(any::<u8>(), 0..=8), index: u32, up: bool, mtu: u32,
        ) {
            let Some(spec) = spec else { return Ok(()) };
            let parts = spec.parts();
            let sent = Interface {
                index,
                name: parts.name.to_string(),
                mac: Some(parts.mac),
                mtu,
                addresses: parts.addresses.clone(),
                path: path(&devfns).ok(),
                queues: parts.queues,
                up,
                arp: parts.arp,
            };
            let bytes = wire::Interface::from(&sent).write_to_bytes().unwrap();
            let read = wire::Interface::parse_from_bytes(&bytes).unwrap();
            prop_assert_eq!(Interface::try_from(&read).unwrap(), sent);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(request) = wire::ConfigureInterfaceRequest::parse_from_bytes(&bytes) {
                let _ = <(PciPath, LinkSpec)>::try_from(&request);
            }
            if let Ok(reply) = wire::ListInterfacesReply::parse_from_bytes(&bytes) {
                let _ = interfaces(&reply);
            }
        }
    }

    fn request() -> wire::ConfigureInterfaceRequest {
        wire::ConfigureInterfaceRequest {
            pci_path: vec![8, 0],
            mac: vec![2, 0, 0, 0, 0, 1],
            name: "eth1".to_owned(),
            mtu: 1500,
            ..wire::ConfigureInterfaceRequest::default()
        }
    }

    #[test]
    fn each_bad_field_is_named() {
        type Break = fn(&mut wire::ConfigureInterfaceRequest);
        let cases: [(&str, Break); 7] = [
            ("pci_path", |r| r.pci_path.clear()),
            ("mac", |r| r.mac.truncate(5)),
            ("name", |r| r.name = "a b".to_owned()),
            ("mtu", |r| r.mtu = 67),
            ("queues", |r| r.queues = 257),
            ("addresses[0]", |r| {
                r.addresses.push(wire::Address::default());
            }),
            ("addresses", |r| {
                r.addresses = vec![wire::Address::default(); 5000];
            }),
        ];
        for (field, break_it) in cases {
            let mut request = request();
            break_it(&mut request);
            let error = <(PciPath, LinkSpec)>::try_from(&request).unwrap_err();
            assert_eq!(error.field(), field, "{error}");
        }
    }
}
