//! What a card shall be in the guest, and what an interface there is.

use std::collections::HashSet;

use super::{
    FieldError, IfName, InterfaceAddress, InvalidValue, MacAddr, Mtu, PciPath, QueuePairs,
};

/// Most addresses of one card: they and their answers fit one netlink batch.
const MAX_ADDRESSES: usize = 128;

/// Whether an interface answers ARP (`IFF_NOARP` inverted, `linux/if.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arp {
    /// The kernel's default.
    On,
    /// `IFF_NOARP` is set.
    Off,
}

/// The configuration of a card in the guest, each part checked but not yet against the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFields {
    /// The name that it gets.
    pub name: IfName,
    /// The address by which it is found.
    pub mac: MacAddr,
    /// Its MTU.
    pub mtu: Mtu,
    /// All the addresses that it gets.
    pub addresses: Vec<InterfaceAddress>,
    /// Queue pairs to switch on; `None` leaves what the driver chose.
    pub queues: Option<QueuePairs>,
    /// Whether it answers ARP.
    pub arp: Arp,
}

/// Whether other hosts on the link are asked first if they have a new IPv6 address (RFC 4862,
/// section 5.4), which takes a second or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DadPolicy {
    /// No: the address works at once (`IFA_F_NODAD`).
    Skip,
    /// Yes: it is waited for, and an address that somebody has is refused.
    Detect,
}

impl From<bool> for DadPolicy {
    /// From the flag that JSON and the wire have for it: whether to look.
    fn from(detect: bool) -> Self {
        if detect { Self::Detect } else { Self::Skip }
    }
}

/// The whole configuration of a card in the guest, its parts in accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    parts: LinkFields,
    duplicates: DadPolicy,
}

impl LinkSpec {
    /// Checks the parts against each other.
    ///
    /// # Errors
    /// An address given twice, more than 128 of them, or an IPv6 address with an MTU under 1280.
    /// `addresses` is what the border calls that field, for the message.
    pub fn new(parts: LinkFields, addresses: &str) -> Result<Self, FieldError> {
        check(&parts.addresses, Some(parts.mtu), addresses)?;
        Ok(Self {
            parts,
            duplicates: DadPolicy::Skip,
        })
    }

    /// The same, with another answer to whether duplicates of its addresses are looked for.
    #[must_use]
    pub fn with_dad(self, duplicates: DadPolicy) -> Self {
        Self { duplicates, ..self }
    }

    /// The parts, to read.
    #[must_use]
    pub fn parts(&self) -> &LinkFields {
        &self.parts
    }

    /// Whether duplicates of its addresses are looked for.
    #[must_use]
    pub fn duplicates(&self) -> DadPolicy {
        self.duplicates
    }
}

/// What of an interface shall change; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkChange {
    name: IfName,
    addresses: Option<Vec<InterfaceAddress>>,
    mtu: Option<Mtu>,
    duplicates: DadPolicy,
}

impl LinkChange {
    /// Of the interface with this name in the guest.
    ///
    /// # Errors
    /// As [`LinkSpec::new`]; `field` is what the border calls the addresses.
    pub fn new(
        name: IfName,
        addresses: Option<Vec<InterfaceAddress>>,
        mtu: Option<Mtu>,
        field: &str,
    ) -> Result<Self, FieldError> {
        check(addresses.as_deref().unwrap_or_default(), mtu, field)?;
        Ok(Self {
            name,
            addresses,
            mtu,
            duplicates: DadPolicy::Skip,
        })
    }

    /// The same, with another answer to whether duplicates of its addresses are looked for.
    #[must_use]
    pub fn with_dad(self, duplicates: DadPolicy) -> Self {
        Self { duplicates, ..self }
    }

    /// The interface.
    #[must_use]
    pub fn name(&self) -> &IfName {
        &self.name
    }

    /// All the addresses that it shall have.
    #[must_use]
    pub fn addresses(&self) -> Option<&[InterfaceAddress]> {
        self.addresses.as_deref()
    }

    /// Its MTU.
    #[must_use]
    pub fn mtu(&self) -> Option<Mtu> {
        self.mtu
    }

    /// Whether duplicates of new addresses are looked for.
    #[must_use]
    pub fn duplicates(&self) -> DadPolicy {
        self.duplicates
    }
}

/// The rules that addresses of one interface keep together, and with its MTU.
fn check(addresses: &[InterfaceAddress], mtu: Option<Mtu>, field: &str) -> Result<(), FieldError> {
    let count = addresses.len();
    if count > MAX_ADDRESSES {
        let bad = InvalidValue::new(&format!("{count} addresses"), "a card has at most 128");
        return Err(bad.in_field(field));
    }
    let mut seen = HashSet::new();
    for (index, address) in addresses.iter().enumerate() {
        let refuse = |rule| {
            InvalidValue::new(&address.to_string(), rule).in_field(format!("{field}[{index}]"))
        };
        if !seen.insert(address.ip()) {
            return Err(refuse("the same address is given twice"));
        }
        if address.ip().is_ipv6() && mtu.is_some_and(|mtu| mtu < Mtu::IPV6_MIN) {
            return Err(refuse(
                "an IPv6 address needs an mtu of at least 1280 bytes",
            ));
        }
    }
    Ok(())
}

/// An interface of the guest as its kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index: never reused while the guest runs.
    pub index: u32,
    /// The kernel's name for it: at most 15 bytes, but of any characters.
    pub name: String,
    /// Its present MAC address; `None` where the link layer has no such thing, or an odd one.
    pub mac: Option<MacAddr>,
    /// Bytes.
    pub mtu: u32,
    /// IPv4 and IPv6, link-local ones left out.
    pub addresses: Vec<InterfaceAddress>,
    /// Where it sits; `None` for what is no PCI device.
    pub path: Option<PciPath>,
    /// Queue pairs in use; `None` where the driver knows no channels.
    pub queues: Option<QueuePairs>,
    /// Whether it is administratively up (`IFF_UP`).
    pub up: bool,
    /// Whether it answers ARP.
    pub arp: Arp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mtu: u64, addresses: &[(&str, u8)]) -> Result<LinkSpec, FieldError> {
        let addresses = addresses
            .iter()
            .map(|(ip, prefix)| InterfaceAddress::new(ip.parse().unwrap(), *prefix).unwrap());
        let parts = LinkFields {
            name: "eth1".parse().unwrap(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            mtu: Mtu::try_from(mtu).unwrap(),
            addresses: addresses.collect(),
            queues: None,
            arp: Arp::On,
        };
        LinkSpec::new(parts, "IPAddresses")
    }

    #[test]
    fn both_families_go_together() {
        assert!(spec(1280, &[("10.0.0.1", 24), ("fd00::1", 64)]).is_ok());
    }

    #[test]
    fn an_address_given_twice_is_named_by_its_index() {
        let error = spec(1500, &[("10.0.0.1", 24), ("10.0.0.1", 16)]).unwrap_err();
        assert_eq!(error.field(), "IPAddresses[1]");
        assert!(error.to_string().contains("twice"), "{error}");
    }

    #[test]
    fn ipv6_needs_its_minimum_mtu() {
        let error = spec(1279, &[("10.0.0.1", 24), ("fd00::1", 64)]).unwrap_err();
        assert_eq!(error.field(), "IPAddresses[1]");
        assert!(error.to_string().contains("at least 1280"), "{error}");
    }

    #[test]
    fn a_flood_of_addresses_is_refused() {
        let many: Vec<String> = (0..129).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<(&str, u8)> = many.iter().map(|a| (a.as_str(), 24)).collect();
        let error = spec(1500, &many).unwrap_err();
        assert_eq!(error.field(), "IPAddresses");
    }
}
