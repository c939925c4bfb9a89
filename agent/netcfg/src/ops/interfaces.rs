//! Interfaces as the host sees them.

use std::collections::HashMap;
use std::io;

use patchbay_types::{
    AddressDetail, AdminState, Carrier, Interface, ListedAddress, Owner, PciPath, Place,
};

use super::addresses::Untagged;
use super::{Error, Netcfg, Sockets};
use crate::ethtool::EthtoolLink;
use crate::rtnl::address::{self, LinkAddress, Origin};
use crate::rtnl::link::{self, Link};

impl Netcfg {
    /// Locates the cards at these paths, also those without an interface in the network namespace.
    ///
    /// # Errors
    /// The list of PCI devices can't be read.
    pub fn places(&self, paths: &[PciPath]) -> io::Result<Vec<Place>> {
        self.sysfs.places(paths)
    }

    /// Lists the interfaces of the network namespace.
    pub fn list(&self, detail: AddressDetail) -> Result<Vec<Interface>, Error> {
        let mut sockets = self.sockets()?;
        let links = link::list(&mut sockets.route)?;
        let mut addresses: HashMap<u32, Vec<LinkAddress>> = HashMap::new();
        if detail == AddressDetail::Listed {
            for address in address::list(&mut sockets.route, None)? {
                addresses.entry(address.index).or_default().push(address);
            }
        }
        let interface = |link: Link| {
            let addresses = addresses.get(&link.index).map_or(&[][..], Vec::as_slice);
            self.interface(&mut sockets, link, addresses)
        };
        Ok(links.into_iter().map(interface).collect())
    }

    pub(super) fn interface(
        &self,
        sockets: &mut Sockets,
        link: Link,
        addresses: &[LinkAddress],
    ) -> Interface {
        let path = self.sysfs.path_of(&link.name, link.index);
        let ethtool_link = EthtoolLink {
            index: link.index,
            name: &link.name,
        };
        // Only cards have queues that a request can set. A link that was removed in the meantime must
        // not fail the list.
        let channels = match path {
            Some(_) => sockets.ethtool.channels(ethtool_link).unwrap_or(None),
            None => None,
        };
        Interface {
            index: link.index,
            name: link.name,
            mac: link.mac,
            mtu: link.mtu,
            addresses: addresses
                .iter()
                .filter_map(|found| self.listed(found))
                .collect(),
            path,
            queues: channels.map(|channels| channels.count),
            up: link.state == AdminState::Up,
            arp: link.arp,
            promisc: Some(link.promisc),
            carrier: Some(if link.carrier {
                Carrier::On
            } else {
                Carrier::Off
            }),
        }
    }

    /// Returns the address as it is listed; `None` for the link-local ones that the kernel keeps.
    fn listed(&self, found: &LinkAddress) -> Option<ListedAddress> {
        let owner = match found.origin {
            Origin::Patchbay => Owner::Patchbay,
            Origin::Untagged if self.untagged == Untagged::Replace => Owner::Patchbay,
            Origin::Untagged | Origin::Other => Owner::Other,
        };
        let hidden = owner == Owner::Other && found.link_local && found.address.ip().is_ipv6();
        let address = found.address;
        (!hidden).then_some(ListedAddress { address, owner })
    }
}
