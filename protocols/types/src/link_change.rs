//! Changes of an interface.

use super::link::check;
use super::{
    DadPolicy, FieldError, IfName, InterfaceAddress, LinkFlags, LinkName, LinkSpec, Mtu, PciPath,
    PrefixRoute,
};

/// Change of an interface; `None` leaves a field unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkChange {
    name: LinkName,
    card: Option<PciPath>,
    addresses: Option<Vec<InterfaceAddress>>,
    mtu: Option<Mtu>,
    duplicates: DadPolicy,
    flags: LinkFlags,
    rename: Option<IfName>,
}

impl LinkChange {
    /// Checks a change of the named interface.
    ///
    /// # Errors
    /// As [`LinkSpec::new`]; `field` is the name of the addresses in the input.
    pub fn new(
        name: LinkName,
        addresses: Option<Vec<InterfaceAddress>>,
        mtu: Option<Mtu>,
        field: &str,
    ) -> Result<Self, FieldError> {
        check(addresses.as_deref().unwrap_or_default(), mtu, field)?;
        Ok(Self {
            name,
            card: None,
            addresses,
            mtu,
            duplicates: DadPolicy::Skip,
            flags: LinkFlags::default(),
            rename: None,
        })
    }

    /// Replaces the policy for duplicate addresses.
    #[must_use]
    pub fn with_dad(self, duplicates: DadPolicy) -> Self {
        Self { duplicates, ..self }
    }

    /// Sets flags.
    #[must_use]
    pub fn with_flags(self, flags: LinkFlags) -> Self {
        Self { flags, ..self }
    }

    /// Sets the new name of the interface.
    #[must_use]
    pub fn with_rename(self, rename: Option<IfName>) -> Self {
        Self { rename, ..self }
    }

    /// Returns a configuration with the fields that the change sets. It stays the same if they don't fit
    /// its MTU, which the guest can have changed.
    #[must_use]
    pub fn applied_to(&self, spec: &LinkSpec) -> LinkSpec {
        let mut parts = spec.parts().clone();
        parts.mtu = self.mtu.unwrap_or(parts.mtu);
        if let Some(name) = &self.rename {
            parts.name.clone_from(name);
        }
        parts.arp = self.flags.arp.unwrap_or(parts.arp);
        if let Some(addresses) = &self.addresses {
            parts.addresses.clone_from(addresses);
        }
        if check(&parts.addresses, Some(parts.mtu), "addresses").is_err() {
            return spec.clone();
        }
        let changed = spec.clone().with_parts(parts);
        let changed = changed
            .with_state(self.flags.state.unwrap_or(spec.state()))
            .with_promisc(self.flags.promisc.or(spec.promisc()));
        changed.without_prefix_routes(|address| spec.prefix_route(address) == PrefixRoute::Absent)
    }

    /// Sets the path of the card that was plugged under this name.
    #[must_use]
    pub fn with_card(self, card: Option<PciPath>) -> Self {
        Self { card, ..self }
    }

    /// Returns the name of the interface: the current one, or that under which a card was plugged.
    #[must_use]
    pub fn name(&self) -> &LinkName {
        &self.name
    }

    /// Returns the path of the card that was plugged under this name.
    #[must_use]
    pub fn card(&self) -> Option<&PciPath> {
        self.card.as_ref()
    }

    /// Returns the complete list of new addresses.
    #[must_use]
    pub fn addresses(&self) -> Option<&[InterfaceAddress]> {
        self.addresses.as_deref()
    }

    /// Returns the new MTU.
    #[must_use]
    pub fn mtu(&self) -> Option<Mtu> {
        self.mtu
    }

    /// Returns the policy for duplicate addresses.
    #[must_use]
    pub fn duplicates(&self) -> DadPolicy {
        self.duplicates
    }

    /// Returns the new name of the interface.
    #[must_use]
    pub fn rename(&self) -> Option<&IfName> {
        self.rename.as_ref()
    }

    /// Returns the flags.
    #[must_use]
    pub fn flags(&self) -> LinkFlags {
        self.flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AdminState, Arp, LinkFields, Neighbor, Promisc};

    fn fields(addresses: Vec<InterfaceAddress>) -> LinkFields {
        LinkFields {
            name: "eth1".parse().unwrap(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            mtu: Mtu::try_from(1500).unwrap(),
            addresses,
            queues: None,
            arp: Arp::On,
        }
    }

    #[test]
    fn change_keeps_what_it_does_not_set() {
        let [kept, removed] = ["10.0.0.1/24", "10.1.0.1/24"].map(|text| {
            let net: ipnet::IpNet = text.parse().unwrap();
            InterfaceAddress::new(net.addr(), net.prefix_len()).unwrap()
        });
        let neighbor = Neighbor {
            ip: "10.0.0.9"
                .parse::<std::net::IpAddr>()
                .unwrap()
                .try_into()
                .unwrap(),
            lladdr: "02:00:00:00:00:09".parse().unwrap(),
            device: (),
        };
        let spec = LinkSpec::new(fields(vec![kept, removed]), "ip").unwrap();
        let spec = spec.without_prefix_routes(|_| true);
        let spec = spec.with_neighbors(vec![neighbor], "neighbors").unwrap();
        assert_eq!(spec.addresses_without_prefix_route(), [kept, removed]);
        let addresses = Some(vec![kept]);
        let change = LinkChange::new("eth1".parse().unwrap(), addresses, None, "ip").unwrap();
        let changed = change.applied_to(&spec);
        assert_eq!(changed.neighbors(), spec.neighbors());
        assert_eq!(changed.addresses_without_prefix_route(), [kept]);
    }

    #[test]
    fn change_keeps_flags_that_it_does_not_set() {
        let flags = LinkFlags {
            state: Some(AdminState::Down),
            promisc: Some(Promisc::On),
            arp: None,
        };
        let change = |flags| {
            let name = "eth1".parse().unwrap();
            let change = LinkChange::new(name, None, None, "ip").unwrap();
            change.with_flags(flags)
        };
        let spec = LinkSpec::new(fields(Vec::new()), "ip").unwrap();
        assert_eq!(spec.state(), AdminState::Up);
        let down = change(flags).applied_to(&spec);
        let no_arp = LinkFlags {
            arp: Some(Arp::Off),
            ..LinkFlags::default()
        };
        let changed = change(no_arp).applied_to(&down);
        assert_eq!(changed.state(), AdminState::Down);
        assert_eq!(changed.promisc(), Some(Promisc::On));
        assert_eq!(changed.parts().arp, Arp::Off);
    }
}
