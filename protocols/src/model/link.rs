//! What a card shall be in the guest, and what an interface there is.

use std::collections::HashSet;

use super::{BadValue, IfName, InterfaceAddress, Invalid, MacAddr, Mtu, PciPath, QueuePairs};

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
pub struct LinkParts {
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

/// The whole configuration of a card in the guest, its parts in accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec(LinkParts);

impl LinkSpec {
    /// Checks the parts against each other.
    ///
    /// # Errors
    /// An address given twice, more than 128 of them, or an IPv6 address with an MTU under 1280.
    /// `addresses` is what the border calls that field, for the message.
    pub fn new(parts: LinkParts, addresses: &str) -> Result<Self, Invalid> {
        let count = parts.addresses.len();
        if count > MAX_ADDRESSES {
            let bad = BadValue::new(&format!("{count} addresses"), "a card has at most 128");
            return Err(bad.at(addresses));
        }
        let mut seen = HashSet::new();
        for (index, address) in parts.addresses.iter().enumerate() {
            let refuse = |rule| BadValue::new(&address.to_string(), rule);
            if !seen.insert(address.ip()) {
                return Err(
                    refuse("the same address is given twice").at(format!("{addresses}[{index}]"))
                );
            }
            if address.ip().is_ipv6() && parts.mtu < Mtu::IPV6_MIN {
                let rule = "an IPv6 address needs an mtu of at least 1280 bytes";
                return Err(refuse(rule).at(format!("{addresses}[{index}]")));
            }
        }
        Ok(Self(parts))
    }

    /// The parts, to read.
    #[must_use]
    pub fn parts(&self) -> &LinkParts {
        &self.0
    }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mtu: u64, addresses: &[(&str, u8)]) -> Result<LinkSpec, Invalid> {
        let addresses = addresses
            .iter()
            .map(|(ip, prefix)| InterfaceAddress::new(ip.parse().unwrap(), *prefix).unwrap());
        let parts = LinkParts {
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
