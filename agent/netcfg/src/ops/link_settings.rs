//! Settings of a link that a configuration can change.

use patchbay_types::{Arp, InterfaceAddress, LinkFields, LinkName, LinkSpec, Mtu, QueuePairs};

use super::{Error, Sockets};
use crate::ethtool::EthtoolLink;
use crate::rtnl::{address, link};

/// Observed or desired settings. An MTU that no request can contain is `None`; it can't be restored
/// and is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkSettings {
    pub(super) name: LinkName,
    pub(super) mtu: Option<Mtu>,
    pub(super) queues: Option<QueuePairs>,
    pub(super) arp: Arp,
    pub(super) addresses: Vec<InterfaceAddress>,
    /// Administratively up.
    pub(super) up: bool,
}

impl From<&LinkSpec> for LinkSettings {
    fn from(spec: &LinkSpec) -> Self {
        let LinkFields {
            name,
            mac: _,
            mtu,
            addresses,
            queues,
            arp,
        } = spec.parts();
        Self {
            name: name.into(),
            mtu: Some(*mtu),
            queues: *queues,
            arp: *arp,
            addresses: addresses.clone(),
            up: true,
        }
    }
}

impl LinkSettings {
    /// Reads the settings of link `index`; `None` if the link has been removed.
    pub(super) fn read(sockets: &mut Sockets, index: u32) -> Result<Option<Self>, Error> {
        let links = link::list(&mut sockets.route)?;
        let Some(link) = links.into_iter().find(|link| link.index == index) else {
            return Ok(None);
        };
        let addresses = address::of(&mut sockets.route, index)?;
        let channels = sockets.ethtool.channels(EthtoolLink {
            index,
            name: &link.name,
        })?;
        Ok(Some(Self {
            name: link.name,
            mtu: Mtu::try_from(u64::from(link.mtu)).ok(),
            queues: channels.map(|channels| channels.count),
            arp: link.arp,
            addresses,
            up: link.up,
        }))
    }
}
