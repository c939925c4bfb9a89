//! Which flows are meant, and what a flow is.

use std::net::IpAddr;

use ipnet::IpNet;

use super::nat::Nat;
use crate::ipvs::Family;

/// One direction of a flow, as far as it is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// Where it comes from.
    pub src: Option<IpNet>,
    /// Where it goes.
    pub dst: Option<IpNet>,
    /// From which port.
    pub src_port: Option<u16>,
    /// To which port.
    pub dst_port: Option<u16>,
}

impl Ends {
    fn families(&self) -> impl Iterator<Item = Family> {
        let nets = [self.src, self.dst].into_iter().flatten();
        nets.map(|net| Family::of(net.addr()))
    }

    fn matches(&self, tuple: &Tuple) -> bool {
        let net = |net: Option<IpNet>, ip: IpAddr| net.is_none_or(|net| net.contains(&ip));
        let port = |wanted: Option<u16>, port: Option<u16>| wanted.is_none() || wanted == port;
        net(self.src, tuple.src)
            && net(self.dst, tuple.dst)
            && port(self.src_port, tuple.src_port)
            && port(self.dst_port, tuple.dst_port)
    }
}

/// A mark, and which of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The mark.
    pub value: u32,
    /// The bits.
    pub mask: u32,
}

/// Bits of a flow's status (`IPS_*`) that must be set and must not be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// All of these.
    pub set: u32,
    /// None of these.
    pub clear: u32,
}

/// Everything that may be said of the flows that are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilterFields {
    /// Of the addresses.
    pub family: Option<Family>,
    /// As the first packet went.
    pub orig: Ends,
    /// As answers come.
    pub reply: Ends,
    /// Number in the IP header.
    pub protocol: Option<u8>,
    /// `TCP_CONNTRACK_*`.
    pub tcp_state: Option<u8>,
    /// Mark.
    pub mark: Option<Mark>,
    /// Zone.
    pub zone: Option<u16>,
    /// Status.
    pub status: Status,
    /// The kernel's number for the flow.
    pub id: Option<u32>,
    /// Translation.
    pub nat: Nat,
}

/// A filter that can't be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoFilter {
    /// It would mean every flow.
    #[error("no filter is given; every flow would be deleted")]
    Everything,
    /// No flow has both.
    #[error("the addresses are not all of one family")]
    Families,
}

/// Which flows are meant: at least something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter(FilterFields);

impl Filter {
    /// Checks that something is said, and nothing that excludes the rest. The family follows an
    /// address.
    ///
    /// # Errors
    /// Nothing is said; addresses of both families.
    pub fn new(mut parts: FilterFields) -> Result<Self, NoFilter> {
        if parts == FilterFields::default() {
            return Err(NoFilter::Everything);
        }
        let nat = parts.nat.said().filter_map(|nat| nat.address);
        let said = parts.orig.families().chain(parts.reply.families());
        let said = said.chain(nat.map(Family::of));
        for family in said.collect::<Vec<_>>() {
            if *parts.family.get_or_insert(family) != family {
                return Err(NoFilter::Families);
            }
        }
        Ok(Self(parts))
    }

    /// What is said.
    #[must_use]
    pub fn parts(&self) -> &FilterFields {
        &self.0
    }

    /// Whether this flow is meant.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        let parts = &self.0;
        let mark = |mark: Mark| flow.mark & mark.mask == mark.value;
        let status = flow.status & parts.status.set == parts.status.set
            && flow.status & parts.status.clear == 0;
        parts
            .family
            .is_none_or(|family| family == Family::of(flow.orig.src))
            && parts.orig.matches(&flow.orig)
            && parts.reply.matches(&flow.reply)
            && parts
                .protocol
                .is_none_or(|protocol| protocol == flow.protocol)
            && (parts.tcp_state.is_none() || parts.tcp_state == flow.tcp_state)
            && parts.mark.is_none_or(mark)
            && parts.zone.is_none_or(|zone| zone == flow.zone)
            && parts.id.is_none_or(|id| id == flow.id)
            && status
            && parts.nat.matches(flow)
    }
}

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Where it comes from.
    pub src: IpAddr,
    /// Where it goes.
    pub dst: IpAddr,
    /// Where the protocol has ports.
    pub src_port: Option<u16>,
    /// Where the protocol has ports.
    pub dst_port: Option<u16>,
}

/// A flow as the kernel tracks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// As the first packet went.
    pub orig: Tuple,
    /// As answers come.
    pub reply: Tuple,
    /// Number in the IP header.
    pub protocol: u8,
    /// `TCP_CONNTRACK_*`.
    pub tcp_state: Option<u8>,
    /// `IPS_*`.
    pub status: u32,
    /// Mark.
    pub mark: u32,
    /// Zone.
    pub zone: u16,
    /// The kernel's number for it.
    pub id: u32,
    /// Seconds until it is forgotten; a flow that was given to the hardware has none.
    pub timeout: Option<u32>,
}
