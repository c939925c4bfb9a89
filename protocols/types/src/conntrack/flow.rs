//! Tracked flows.

use std::net::IpAddr;

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port, if the protocol has ports, or key of GRE.
    pub src_port: Option<u16>,
    /// Destination port, if the protocol has ports, or key of GRE.
    pub dst_port: Option<u16>,
    /// ICMP header, if the protocol is ICMP of either family.
    pub icmp: Option<Icmp>,
    /// Zone of this direction; 0 if both directions have the same.
    pub zone: u16,
}

/// Fields of an ICMP header that identify a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Identifier.
    pub id: u16,
}

/// Tracked flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Original direction.
    pub orig: Tuple,
    /// Reply direction.
    pub reply: Tuple,
    /// Protocol number of the IP header.
    pub protocol: u8,
    /// State in the numbers of the protocol, such as `TCP_CONNTRACK_*`.
    pub state: Option<u8>,
    /// `IPS_*`.
    pub status: u32,
    /// Mark.
    pub mark: u32,
    /// Zone of both directions.
    pub zone: u16,
    /// Labels, one bit each.
    pub labels: u128,
    /// The kernel's id of the flow.
    pub id: u32,
    /// Seconds until it expires; a flow that is offloaded to hardware has none.
    pub timeout: Option<u32>,
}
