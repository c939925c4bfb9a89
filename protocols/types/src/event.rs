//! Events of a guest's network.

use crate::{Carrier, InterfaceAddress, LinkName, MacAddr, Route};

/// Event of a guest's network, as its kernel reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetEvent {
    /// The object is new, or its state has changed.
    Changed(NetObject),
    /// The object is gone.
    Gone(NetObject),
    /// Events are lost: there were more than the reader took.
    Lost,
}

/// Object of a network with its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetObject {
    /// A link.
    Link(LinkState),
    /// An address of a link.
    Address(LinkName, InterfaceAddress, AddressState),
    /// A unicast route.
    Route(Route),
}

/// State of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// The kernel's index, never reused while the guest runs.
    pub index: u32,
    /// The kernel's name.
    pub name: LinkName,
    /// Current MAC address; `None` if the link layer has none, or an invalid one.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administrative state (`IFF_UP`).
    pub up: bool,
    /// Carrier, which a link that is down does not have.
    pub carrier: Carrier,
}

/// State of an address, by duplicate address detection (RFC 4862).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressState {
    /// Detection is complete, or not performed.
    Usable,
    /// Detection is in progress.
    Tentative,
    /// Another host has the address.
    Duplicate,
}
