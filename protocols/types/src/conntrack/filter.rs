//! Filters that select flows.

use std::net::IpAddr;

use super::{Flow, Icmp, Masked, NoFilter, Tuple};
use crate::ipvs::Family;

/// Criteria for one direction of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// Source network.
    pub src: Option<Masked>,
    /// Destination network.
    pub dst: Option<Masked>,
    /// Source port, or key of GRE.
    pub src_port: Option<u16>,
    /// Destination port, or key of GRE.
    pub dst_port: Option<u16>,
    /// Zone of this direction only.
    pub zone: Option<u16>,
}

impl Ends {
    fn families(&self) -> impl Iterator<Item = Family> {
        let nets = [self.src, self.dst].into_iter().flatten();
        nets.map(|net| Family::of(net.address()))
    }

    fn matches(&self, tuple: &Tuple) -> bool {
        let net = |net: Option<Masked>, ip: IpAddr| net.is_none_or(|net| net.contains(ip));
        let port = |wanted: Option<u16>, port: Option<u16>| wanted.is_none() || wanted == port;
        net(self.src, tuple.src)
            && net(self.dst, tuple.dst)
            && port(self.src_port, tuple.src_port)
            && port(self.dst_port, tuple.dst_port)
            && self.zone.is_none_or(|zone| zone == tuple.zone)
    }
}

/// Criterion for the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Value of the masked bits.
    pub value: u32,
    /// Mask.
    pub mask: u32,
}

/// Criteria for the status bits (`IPS_*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusMask {
    /// Bits that must be set.
    pub set: u32,
    /// Bits that must be clear.
    pub clear: u32,
}

/// Criteria for the ICMP header of the first packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IcmpFilter {
    /// Type.
    pub kind: Option<u8>,
    /// Code.
    pub code: Option<u8>,
    /// Identifier of an echo or a similar query.
    pub id: Option<u16>,
}

impl IcmpFilter {
    fn matches(self, icmp: Option<Icmp>) -> bool {
        self == Self::default()
            || icmp.is_some_and(|icmp| {
                self.kind.is_none_or(|kind| kind == icmp.kind)
                    && self.code.is_none_or(|code| code == icmp.code)
                    && self.id.is_none_or(|id| id == icmp.id)
            })
    }
}

/// Criteria of a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilterFields {
    /// Address family.
    pub family: Option<Family>,
    /// Original direction.
    pub orig: Ends,
    /// Reply direction.
    pub reply: Ends,
    /// Protocol number of the IP header.
    pub protocol: Option<u8>,
    /// State in the numbers of the protocol, such as `TCP_CONNTRACK_*`.
    pub state: Option<u8>,
    /// ICMP header.
    pub icmp: IcmpFilter,
    /// Mark.
    pub mark: Option<Mark>,
    /// Zone of both directions.
    pub zone: Option<u16>,
    /// Labels that must be set, one bit each.
    pub labels: u128,
    /// Status bits.
    pub status: StatusMask,
    /// The kernel's id of the flow.
    pub id: Option<u32>,
    /// Address translation.
    pub nat: Nat,
}

/// Filter of flows with at least one criterion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter(FilterFields);

impl Filter {
    /// Checks that there is a criterion and that the families agree. An address determines the
    /// family.
    ///
    /// # Errors
    /// No criterion; addresses of both families.
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

    /// Returns the criteria.
    #[must_use]
    pub fn parts(&self) -> &FilterFields {
        &self.0
    }

    /// Returns whether a flow matches every criterion.
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
            && (parts.state.is_none() || parts.state == flow.state)
            && parts.icmp.matches(flow.orig.icmp)
            && parts.mark.is_none_or(mark)
            && parts.zone.is_none_or(|zone| zone == flow.zone)
            && flow.labels & parts.labels == parts.labels
            && parts.id.is_none_or(|id| id == flow.id)
            && status
            && parts.nat.matches(flow)
    }
}

/// `IPS_SRC_NAT_DONE` and `IPS_DST_NAT_DONE`. Without them, a different address in the reply comes
/// from something else, such as IPVS.
const SOURCE_DONE: u32 = 1 << 7;
const DESTINATION_DONE: u32 = 1 << 8;

/// Criteria for a translated end. Without any, every change of address or port matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Translated {
    /// New address.
    pub address: Option<IpAddr>,
    /// New port.
    pub port: Option<u16>,
}

/// Address and optional port.
type End = (IpAddr, Option<u16>);

impl Translated {
    fn happened(self, (ip, port): End, (new_ip, new_port): End) -> bool {
        if self == Self::default() {
            return ip != new_ip || port != new_port;
        }
        let address = |wanted: IpAddr| ip != new_ip && new_ip == wanted;
        let its_port = |wanted: u16| port != new_port && new_port == Some(wanted);
        self.address.is_none_or(address) && self.port.is_none_or(its_port)
    }

    fn of_source(self, flow: &Flow) -> bool {
        flow.status & SOURCE_DONE != 0 && self.happened(src(&flow.orig), dst(&flow.reply))
    }

    fn of_destination(self, flow: &Flow) -> bool {
        flow.status & DESTINATION_DONE != 0 && self.happened(dst(&flow.orig), src(&flow.reply))
    }
}

fn src(tuple: &Tuple) -> End {
    (tuple.src, tuple.src_port)
}

fn dst(tuple: &Tuple) -> End {
    (tuple.dst, tuple.dst_port)
}

/// Criteria for the translation of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nat {
    /// Translation of the source.
    pub source: Option<Translated>,
    /// Translation of the destination.
    pub destination: Option<Translated>,
    /// Translation of either.
    pub any: Option<Translated>,
}

impl Nat {
    pub(super) fn matches(&self, flow: &Flow) -> bool {
        self.source.is_none_or(|nat| nat.of_source(flow))
            && self.destination.is_none_or(|nat| nat.of_destination(flow))
            && self
                .any
                .is_none_or(|nat| nat.of_source(flow) || nat.of_destination(flow))
    }

    /// Returns the criteria that are set.
    pub(super) fn said(&self) -> impl Iterator<Item = Translated> {
        [self.source, self.destination, self.any]
            .into_iter()
            .flatten()
    }
}
