//! Interfaces of a guest.

use crate::{AdminState, Arp, LinkName, ListedAddress, MacAddr, PciPath, Promisc, QueuePairs};

/// Interface of the guest as its kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index, never reused while the guest runs.
    pub index: u32,
    /// The kernel's name.
    pub name: LinkName,
    /// Current MAC address; `None` if the link layer has none, or an invalid one.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: u32,
    /// IPv4 and IPv6 addresses, without the link-local IPv6 ones of other programs and the kernel.
    pub addresses: Vec<ListedAddress>,
    /// PCI path; `None` if it is not a PCI device.
    pub path: Option<PciPath>,
    /// Queue pairs in use; `None` if the driver has no channels.
    pub queues: Option<QueuePairs>,
    /// Administrative state (`IFF_UP`).
    pub up: bool,
    /// ARP.
    pub arp: Arp,
    /// Carrier, which a link that is down does not have; `None` if the agent doesn't report it.
    pub carrier: Option<Carrier>,
    /// Promiscuous mode; `None` if the agent doesn't report it.
    pub promisc: Option<Promisc>,
}

impl Interface {
    /// Returns the administrative state.
    #[must_use]
    pub fn state(&self) -> AdminState {
        self.up.into()
    }
}

/// Carrier of a link: whether its cable is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// The link can carry frames.
    On,
    /// It can't.
    Off,
}
