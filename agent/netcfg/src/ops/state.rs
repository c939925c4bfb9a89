//! What of a link is ours to set, and the reading of it.

use patchbay_types::{Arp, IfName, InterfaceAddress, LinkFields, LinkSpec, Mtu, QueuePairs};

use super::{Error, Sockets};
use crate::ethtool::Device;
use crate::rtnl::{address, link};

/// Whether a link is administratively up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admin {
    Up,
    Down,
}

/// All that a configuration may change. A value that no configuration of ours could ask for (an odd
/// name, an MTU of the driver's own) is `None`: there is no way back to it, and none is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) name: Option<IfName>,
    pub(super) mtu: Option<Mtu>,
    pub(super) queues: Option<QueuePairs>,
    pub(super) arp: Arp,
    pub(super) addresses: Vec<InterfaceAddress>,
    pub(super) admin: Admin,
}

impl From<&LinkSpec> for State {
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
            name: Some(name.clone()),
            mtu: Some(*mtu),
            queues: *queues,
            arp: *arp,
            addresses: addresses.clone(),
            admin: Admin::Up,
        }
    }
}

impl State {
    /// Reads link `index`; `None` when it is gone.
    pub(super) fn read(kernel: &mut Sockets, index: u32) -> Result<Option<Self>, Error> {
        let links = link::list(&mut kernel.route)?;
        let Some(link) = links.into_iter().find(|link| link.index == index) else {
            return Ok(None);
        };
        let addresses = address::of(&mut kernel.route, index)?;
        let channels = kernel.ethtool.channels(Device {
            index,
            name: &link.name,
        })?;
        Ok(Some(Self {
            name: link.name.parse().ok(),
            mtu: Mtu::try_from(u64::from(link.mtu)).ok(),
            queues: channels.map(|channels| channels.count),
            arp: link.arp,
            addresses,
            admin: if link.up { Admin::Up } else { Admin::Down },
        }))
    }
}
