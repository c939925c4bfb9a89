//! Settings of a link that a configuration can change, besides its addresses.

use patchbay_types::{
    AdminState, Arp, LinkChange, LinkFields, LinkFlags, LinkName, LinkSpec, Mtu, Promisc,
    QueuePairs,
};

use super::error::Difference;
use super::{Error, Sockets};
use crate::ethtool::EthtoolLink;
use crate::rtnl::link::Link;

/// Observed or desired settings. An MTU that no request can contain is `None`; it can't be restored
/// and is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkSettings {
    pub(super) name: LinkName,
    pub(super) mtu: Option<Mtu>,
    /// `None` if the device has no channels, or if the request doesn't change them.
    pub(super) queues: Option<QueuePairs>,
    pub(super) arp: Arp,
    /// `None` if the request doesn't change it.
    pub(super) promisc: Option<Promisc>,
    pub(super) state: AdminState,
}

impl From<&LinkSpec> for LinkSettings {
    fn from(spec: &LinkSpec) -> Self {
        let LinkFields {
            name,
            mac: _,
            mtu,
            addresses: _,
            queues,
            arp,
        } = spec.parts();
        Self {
            name: name.into(),
            mtu: Some(*mtu),
            queues: *queues,
            arp: *arp,
            promisc: spec.promisc(),
            state: spec.state(),
        }
    }
}

impl From<&Link> for LinkSettings {
    fn from(link: &Link) -> Self {
        Self {
            name: link.name.clone(),
            mtu: Mtu::try_from(u64::from(link.mtu)).ok(),
            queues: None,
            arp: link.arp,
            promisc: Some(link.promisc),
            state: link.state,
        }
    }
}

impl LinkSettings {
    /// Returns the settings after a change.
    pub(super) fn changed(&self, change: &LinkChange) -> Self {
        let LinkFlags {
            state,
            arp,
            promisc,
        } = change.flags();
        Self {
            name: change
                .rename()
                .map_or_else(|| self.name.clone(), LinkName::from),
            mtu: change.mtu().or(self.mtu),
            queues: self.queues,
            arp: arp.unwrap_or(self.arp),
            promisc,
            state: state.unwrap_or(self.state),
        }
    }

    /// Reads the number of queues, which is not part of a link's message.
    pub(super) fn with_queues(self, sockets: &mut Sockets, link: &Link) -> Result<Self, Error> {
        let channels = sockets.ethtool.channels(EthtoolLink {
            index: link.index,
            name: &link.name,
        })?;
        let queues = channels.map(|channels| channels.count);
        Ok(Self { queues, ..self })
    }

    /// Checks that these are the settings that were `found` on `link`.
    pub(super) fn check(&self, found: &Self, link: &Link) -> Result<(), Error> {
        // A card with a single pair has no channels.
        let pairs = |queues: Option<QueuePairs>| queues.unwrap_or(QueuePairs::ONE);
        let difference = if self.name != found.name {
            Difference::Name(link.name.clone())
        } else if self.mtu.is_some() && self.mtu != found.mtu {
            Difference::Mtu(link.mtu)
        } else if self.queues.is_some() && pairs(self.queues) != pairs(found.queues) {
            Difference::Queues(pairs(found.queues))
        } else if self.arp != found.arp {
            Difference::Arp(found.arp)
        } else if let (Some(wanted), Some(now)) = (self.promisc, found.promisc)
            && wanted != now
        {
            Difference::Promisc(now)
        } else if self.state != found.state {
            Difference::State(found.state)
        } else {
            return Ok(());
        };
        Err(Error::Differs(difference))
    }
}
