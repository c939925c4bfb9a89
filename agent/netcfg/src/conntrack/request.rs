//! Conntrack requests, and the part of a filter that the kernel applies.

use std::net::{IpAddr, Ipv4Addr};

use patchbay_netlink::{Batch, Body, Flags, Netfilter};
use patchbay_types::conntrack::{Ends, Filter, FilterFields, Masked};
use patchbay_types::ipvs::Family;

use super::consts::{
    BY_DST, BY_DST_PORT, BY_PROTOCOL, BY_SRC, BY_SRC_PORT, CTA_FILTER, CTA_FILTER_ORIG_FLAGS,
    CTA_FILTER_REPLY_FLAGS, CTA_ID, CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_PROTO_DST_PORT,
    CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_ZONE,
    DELETE, GET, GET_STATS, HEADER,
};
use super::decode::ListedFlow;
use crate::inet::{AF_INET, af};

/// Protocols with ports that every kernel reads from a filter: TCP and UDP. For a protocol that it
/// doesn't track a kernel takes the ports for 0, which matches all flows of that protocol.
const PROTOCOLS_WITH_PORTS: [u8; 2] = [6, 17];

fn header(family: u8) -> [u8; HEADER] {
    [family, 0, 0, 0]
}

/// Builds a dump of the flows of one family, or of both.
pub(super) fn list(family: Option<Family>) -> Batch<Netfilter> {
    Batch::of(GET, Flags::Dump, |body| {
        body.raw(&header(family.map_or(0, af)));
    })
}

/// Builds a request for the number of flows in the table.
pub(super) fn count() -> Batch<Netfilter> {
    Batch::of(GET_STATS, Flags::Plain, |body| body.raw(&header(0)))
}

/// Appends a request that deletes a flow. It includes the id, so that it can't delete a new flow with
/// the same addresses.
pub(super) fn push_delete(batch: &mut Batch<Netfilter>, listed: &ListedFlow<'_>) {
    batch.push(DELETE, Flags::Plain, |body| {
        body.raw(&header(af(Family::of(listed.flow.orig.src))));
        body.nest(CTA_TUPLE_ORIG, |nest| nest.raw(listed.orig));
        body.bytes(CTA_ID, listed.flow.id.to_be_bytes());
        if listed.flow.zone != 0 {
            body.bytes(CTA_ZONE, listed.flow.zone.to_be_bytes());
        }
    });
}

/// Part of a filter that the kernel applies itself (`CTA_FILTER`).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KernelFilter {
    src: Option<Ipv4Addr>,
    dst: Option<Ipv4Addr>,
    protocol: Option<u8>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
}

impl KernelFilter {
    /// Takes IPv4 host addresses, the protocol and ports from a filter. `None` without an address,
    /// because then the kernel would skip few flows.
    pub(super) fn of(filter: &Filter) -> Option<Self> {
        let fields = filter.parts();
        let host = |net: Option<Masked>| match net?.address() {
            IpAddr::V4(v4) if net == Some(Masked::host(v4.into())) => Some(v4),
            _ => None,
        };
        let has_ports = |number| PROTOCOLS_WITH_PORTS.contains(&number);
        let has_ports = fields.protocol.is_some_and(has_ports);
        let kernel_filter = Self {
            src: host(fields.orig.src),
            dst: host(fields.orig.dst),
            protocol: fields.protocol,
            src_port: fields.orig.src_port.filter(|_| has_ports),
            dst_port: fields.orig.dst_port.filter(|_| has_ports),
        };
        (kernel_filter.src.is_some() || kernel_filter.dst.is_some()).then_some(kernel_filter)
    }

    /// Returns whether a single request can delete the flows of `filter`: this part is the whole
    /// filter, and no kernel takes it for anything else.
    pub(super) fn can_delete(&self, filter: &Filter) -> bool {
        let net = |address: Option<Ipv4Addr>| address.map(|ip| Masked::host(ip.into()));
        let whole = FilterFields {
            family: Some(Family::V4),
            orig: Ends {
                src: net(self.src),
                dst: net(self.dst),
                src_port: self.src_port,
                dst_port: self.dst_port,
                zone: None,
            },
            protocol: self.protocol,
            ..FilterFields::default()
        };
        *filter.parts() == whole && !self.is_tuple()
    }

    /// Returns whether it is a complete tuple. Linux before 6.12 then ignores the filter, deletes only
    /// the flow of zone 0 with this tuple, and reports success.
    fn is_tuple(&self) -> bool {
        let without_ports = |number| !PROTOCOLS_WITH_PORTS.contains(&number);
        self.src.is_some()
            && self.dst.is_some()
            && (self.protocol.is_some_and(without_ports)
                || self.src_port.is_some() && self.dst_port.is_some())
    }

    /// Builds a dump of the matching flows.
    pub(super) fn list(&self) -> Batch<Netfilter> {
        Batch::of(GET, Flags::Dump, |body| self.encode(body))
    }

    /// Builds a request that deletes all matching flows (Linux 6.12 and later).
    pub(super) fn delete(&self) -> Batch<Netfilter> {
        Batch::of(DELETE, Flags::Plain, |body| self.encode(body))
    }

    pub(super) fn flags(&self) -> u32 {
        self.src.map_or(0, |_| BY_SRC)
            | self.dst.map_or(0, |_| BY_DST)
            | self.protocol.map_or(0, |_| BY_PROTOCOL)
            | self.src_port.map_or(0, |_| BY_SRC_PORT)
            | self.dst_port.map_or(0, |_| BY_DST_PORT)
    }

    fn encode(&self, body: &mut Body<'_>) {
        body.raw(&header(AF_INET));
        body.nest(CTA_TUPLE_ORIG, |tuple| {
            tuple.nest(CTA_TUPLE_IP, |ip| {
                for (kind, address) in [(CTA_IP_V4_SRC, self.src), (CTA_IP_V4_DST, self.dst)] {
                    if let Some(address) = address {
                        ip.bytes(kind, address.octets());
                    }
                }
            });
            let Some(protocol) = self.protocol else {
                return;
            };
            tuple.nest(CTA_TUPLE_PROTO, |proto| {
                proto.u8(CTA_PROTO_NUM, protocol);
                let (src, dst) = (self.src_port, self.dst_port);
                for (kind, port) in [(CTA_PROTO_SRC_PORT, src), (CTA_PROTO_DST_PORT, dst)] {
                    if let Some(port) = port {
                        proto.bytes(kind, port.to_be_bytes());
                    }
                }
            });
        });
        body.nest(CTA_FILTER, |nest| {
            nest.u32(CTA_FILTER_ORIG_FLAGS, self.flags());
            nest.u32(CTA_FILTER_REPLY_FLAGS, 0);
        });
    }
}
