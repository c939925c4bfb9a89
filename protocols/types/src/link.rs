//! Desired configuration of a card, and observed state of an interface.

use std::collections::HashSet;
use std::net::Ipv6Addr;

use super::{
    AdminState, Arp, FieldError, IfName, InterfaceAddress, InvalidValue, MAX_CARD_NEIGHBORS,
    MacAddr, Mtu, Neighbor, Promisc, QueuePairs, check_neighbors,
};

/// Maximum number of addresses of a card. Requests and replies for them fit one netlink batch.
const MAX_ADDRESSES: usize = 128;

/// Fields of a card's configuration in the guest, not yet checked against each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFields {
    /// Name in the guest.
    pub name: IfName,
    /// MAC address, which identifies the card.
    pub mac: MacAddr,
    /// MTU.
    pub mtu: Mtu,
    /// All addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// Queue pairs to enable; `None` keeps the driver's default.
    pub queues: Option<QueuePairs>,
    /// ARP.
    pub arp: Arp,
}

/// Policy for duplicate address detection of IPv6 (RFC 4862, section 5.4), which takes a second or
/// two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DadPolicy {
    /// Skip it: the address is usable at once (`IFA_F_NODAD`).
    Skip,
    /// Wait for it; a duplicate is an error.
    Detect,
}

impl From<bool> for DadPolicy {
    /// Converts the flag of JSON and wire, which is `true` to detect duplicates.
    fn from(detect: bool) -> Self {
        if detect { Self::Detect } else { Self::Skip }
    }
}

/// Route that the kernel makes to the network of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrefixRoute {
    /// The kernel's default.
    Kernel,
    /// No route (`IFA_F_NOPREFIXROUTE`).
    Absent,
}

/// Configuration of a card in the guest whose fields fit each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    parts: LinkFields,
    duplicates: DadPolicy,
    neighbors: Vec<Neighbor<()>>,
    /// Addresses without a prefix route, in the order of `parts`.
    without_prefix_route: Vec<InterfaceAddress>,
    state: AdminState,
    promisc: Option<Promisc>,
}

impl LinkSpec {
    /// Checks the fields against each other.
    ///
    /// # Errors
    /// A repeated address, more than 128 of them, the IPv6 address of the loopback, or an IPv6 address with an MTU
    /// below 1280.
    /// `addresses` is the name of that field in the input, for the message.
    pub fn new(parts: LinkFields, addresses: &str) -> Result<Self, FieldError> {
        check(&parts.addresses, Some(parts.mtu), addresses)?;
        let is_loopback = |address: &InterfaceAddress| address.ip() == Ipv6Addr::LOCALHOST;
        if let Some(index) = parts.addresses.iter().position(is_loopback) {
            let invalid = InvalidValue::new(&"::1", "only the loopback can have this address");
            return Err(invalid.in_field(format!("{addresses}[{index}]")));
        }
        Ok(Self {
            parts,
            duplicates: DadPolicy::Skip,
            neighbors: Vec::new(),
            without_prefix_route: Vec::new(),
            state: AdminState::Up,
            promisc: None,
        })
    }

    /// Selects the addresses to whose network the kernel makes no route.
    #[must_use]
    pub fn without_prefix_routes(self, selects: impl Fn(InterfaceAddress) -> bool) -> Self {
        let addresses = self.parts.addresses.iter().copied();
        Self {
            without_prefix_route: addresses.filter(|address| selects(*address)).collect(),
            ..self
        }
    }

    /// Returns the prefix route of an address.
    #[must_use]
    pub fn prefix_route(&self, address: InterfaceAddress) -> PrefixRoute {
        if self.without_prefix_route.contains(&address) {
            PrefixRoute::Absent
        } else {
            PrefixRoute::Kernel
        }
    }

    /// Returns the addresses without a prefix route.
    #[must_use]
    pub fn addresses_without_prefix_route(&self) -> &[InterfaceAddress] {
        &self.without_prefix_route
    }

    /// Replaces the fields by some that were checked.
    pub(crate) fn with_parts(self, parts: LinkFields) -> Self {
        Self { parts, ..self }
    }

    /// Replaces the policy for duplicate addresses.
    #[must_use]
    pub fn with_dad(self, duplicates: DadPolicy) -> Self {
        Self { duplicates, ..self }
    }

    /// Sets the administrative state, which is up by default.
    #[must_use]
    pub fn with_state(self, state: AdminState) -> Self {
        Self { state, ..self }
    }

    /// Sets promiscuous mode; `None`, the default, leaves it as it is.
    #[must_use]
    pub fn with_promisc(self, promisc: Option<Promisc>) -> Self {
        Self { promisc, ..self }
    }

    /// Sets the static entries of the neighbor tables.
    ///
    /// # Errors
    /// Those of [`check_neighbors`] with a maximum of 128; `field` is the name of the list in the input.
    pub fn with_neighbors(
        self,
        neighbors: Vec<Neighbor<()>>,
        field: &str,
    ) -> Result<Self, FieldError> {
        check_neighbors(&neighbors, MAX_CARD_NEIGHBORS, field)?;
        Ok(Self { neighbors, ..self })
    }

    /// Returns the static entries of the neighbor tables.
    #[must_use]
    pub fn neighbors(&self) -> &[Neighbor<()>] {
        &self.neighbors
    }

    /// Replaces the name in the guest.
    #[must_use]
    pub fn with_name(mut self, name: IfName) -> Self {
        self.parts.name = name;
        self
    }

    /// Replaces the properties of the device.
    #[must_use]
    pub fn with_device(mut self, mac: MacAddr, queues: Option<QueuePairs>) -> Self {
        self.parts.mac = mac;
        self.parts.queues = queues;
        self
    }

    /// Returns the fields.
    #[must_use]
    pub fn parts(&self) -> &LinkFields {
        &self.parts
    }

    /// Returns the policy for duplicate addresses.
    #[must_use]
    pub fn duplicates(&self) -> DadPolicy {
        self.duplicates
    }

    /// Returns the administrative state.
    #[must_use]
    pub fn state(&self) -> AdminState {
        self.state
    }

    /// Returns promiscuous mode; `None` if it is left as it is.
    #[must_use]
    pub fn promisc(&self) -> Option<Promisc> {
        self.promisc
    }
}

/// Checks the addresses of an interface against each other and against its MTU.
pub(crate) fn check(
    addresses: &[InterfaceAddress],
    mtu: Option<Mtu>,
    field: &str,
) -> Result<(), FieldError> {
    let count = addresses.len();
    if count > MAX_ADDRESSES {
        let bad = InvalidValue::new(&format!("{count} addresses"), "a card has at most 128");
        return Err(bad.in_field(field));
    }
    let mut seen = HashSet::new();
    for (index, address) in addresses.iter().enumerate() {
        let refuse = |rule| InvalidValue::new(&address, rule).in_field(format!("{field}[{index}]"));
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

/// Address of an interface as the guest lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedAddress {
    /// Address and prefix length.
    pub address: InterfaceAddress,
    /// Program that set it.
    pub owner: Owner,
}

/// Program that set an address. A request replaces only those of patchbay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// patchbay.
    Patchbay,
    /// The kernel or another program.
    Other,
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
    fn link_accepts_both_families() {
        assert!(spec(1280, &[("10.0.0.1", 24), ("fd00::1", 64)]).is_ok());
    }

    #[test]
    fn link_duplicate_address_names_its_index() {
        let error = spec(1500, &[("10.0.0.1", 24), ("10.0.0.1", 16)]).unwrap_err();
        assert_eq!(error.field(), "IPAddresses[1]");
        assert!(error.to_string().contains("twice"), "{error}");
    }

    #[test]
    fn link_ipv6_below_minimum_mtu_is_refused() {
        let error = spec(1279, &[("10.0.0.1", 24), ("fd00::1", 64)]).unwrap_err();
        assert_eq!(error.field(), "IPAddresses[1]");
        assert!(error.to_string().contains("at least 1280"), "{error}");
    }

    #[test]
    fn link_with_address_of_loopback_is_refused() {
        let error = spec(1500, &[("127.0.0.1", 8), ("::1", 128)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "IPAddresses[1] '::1' is not allowed: only the loopback can have this address"
        );
    }

    #[test]
    fn link_too_many_addresses_is_refused() {
        let many: Vec<String> = (0..129).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<(&str, u8)> = many.iter().map(|a| (a.as_str(), 24)).collect();
        let error = spec(1500, &many).unwrap_err();
        assert_eq!(error.field(), "IPAddresses");
    }
}
