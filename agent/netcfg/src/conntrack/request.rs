//! Requests about flows.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use patchbay_types::conntrack::{Ends, Filter, FilterFields};
use patchbay_types::ipvs::Family;

use super::decode::{self, Tracked};
use patchbay_netlink::{Batch, Body, Flags, Netfilter};

/// `NFNL_SUBSYS_CTNETLINK << 8`, and its messages.
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
const GET_STATS: u16 = 0x105;

pub(super) const CTA_TUPLE_ORIG: u16 = 1;
pub(super) const CTA_ID: u16 = 12;
pub(super) const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;

/// Bits of `CTA_FILTER_ORIG_FLAGS`.
const BY_SRC: u32 = 1;
const BY_DST: u32 = 2;
const BY_PROTOCOL: u32 = 8;
const BY_SRC_PORT: u32 = 16;
const BY_DST_PORT: u32 = 32;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Protocols of which every kernel reads the ports that a filter has. Of one that it does not
/// track it would take them for 0, which all flows of that protocol have.
const PORTS_READ: [u8; 2] = [6, 17];

/// `nfgenmsg`: family, version 0, resource 0.
fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// A list of all flows of one family, or of both.
pub(super) fn listing(family: Option<Family>) -> Batch<Netfilter> {
    let family = match family {
        None => 0,
        Some(Family::V4) => AF_INET,
        Some(Family::V6) => AF_INET6,
    };
    Batch::of(GET, Flags::Dump, |body| body.raw(&header(family)))
}

/// What is told of the table as a whole.
pub(super) fn totals() -> Batch<Netfilter> {
    Batch::of(GET_STATS, Flags::Plain, |body| body.raw(&header(0)))
}

/// Adds the deletion of one flow. The id keeps a new flow of the same addresses alive.
pub(super) fn push_delete(batch: &mut Batch<Netfilter>, tracked: &Tracked<'_>) {
    let family = match tracked.flow.orig.src {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    };
    batch.push(DELETE, Flags::Plain, |body| {
        body.raw(&header(family));
        body.nest(CTA_TUPLE_ORIG, |nest| nest.raw(tracked.orig));
        body.bytes(CTA_ID, tracked.flow.id.to_be_bytes());
        if tracked.flow.zone != 0 {
            body.bytes(CTA_ZONE, tracked.flow.zone.to_be_bytes());
        }
    });
}

/// What of a filter the kernel can sift by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sieve {
    src: Option<Ipv4Addr>,
    dst: Option<Ipv4Addr>,
    protocol: Option<u8>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
}

impl Sieve {
    /// Whole IPv4 addresses, the protocol, ports; `None` without an address, where it would hold
    /// back little.
    pub(super) fn of(filter: &Filter) -> Option<Self> {
        let parts = filter.parts();
        let whole = |net: Option<IpNet>| match net {
            Some(IpNet::V4(net)) if net.prefix_len() == 32 => Some(net.addr()),
            _ => None,
        };
        let read = |number| PORTS_READ.contains(&number);
        let readable = parts.protocol.is_some_and(read);
        let sieve = Self {
            src: whole(parts.orig.src),
            dst: whole(parts.orig.dst),
            protocol: parts.protocol,
            src_port: parts.orig.src_port.filter(|_| readable),
            dst_port: parts.orig.dst_port.filter(|_| readable),
        };
        (sieve.src.is_some() || sieve.dst.is_some()).then_some(sieve)
    }

    /// Whether one message may delete what the filter means: that is what the sieve lets through,
    /// nothing narrower, and no kernel takes it for something else.
    pub(super) fn deletes_all(&self, filter: &Filter) -> bool {
        let net = |address: Option<Ipv4Addr>| address.map(|ip| IpNet::from(IpAddr::V4(ip)));
        let said = FilterFields {
            family: Some(Family::V4),
            orig: Ends {
                src: net(self.src),
                dst: net(self.dst),
                src_port: self.src_port,
                dst_port: self.dst_port,
            },
            protocol: self.protocol,
            ..FilterFields::default()
        };
        *filter.parts() == said && !self.is_tuple()
    }

    /// Whether it has a whole tuple: Linux before 6.12 then deletes the one flow of zone 0 that has
    /// it, looks at no filter, and reports success.
    fn is_tuple(&self) -> bool {
        let without_ports = |number| !PORTS_READ.contains(&number);
        self.src.is_some()
            && self.dst.is_some()
            && (self.protocol.is_some_and(without_ports)
                || self.src_port.is_some() && self.dst_port.is_some())
    }

    /// A list of what it lets through.
    pub(super) fn listing(&self) -> Batch<Netfilter> {
        Batch::of(GET, Flags::Dump, |body| self.write(body))
    }

    /// Deletes all that it lets through, on Linux 6.12 and later.
    pub(super) fn delete(&self) -> Batch<Netfilter> {
        Batch::of(DELETE, Flags::Plain, |body| self.write(body))
    }

    pub(super) fn flags(&self) -> u32 {
        self.src.map_or(0, |_| BY_SRC)
            | self.dst.map_or(0, |_| BY_DST)
            | self.protocol.map_or(0, |_| BY_PROTOCOL)
            | self.src_port.map_or(0, |_| BY_SRC_PORT)
            | self.dst_port.map_or(0, |_| BY_DST_PORT)
    }

    fn write(&self, body: &mut Body<'_>) {
        body.raw(&header(AF_INET));
        body.nest(CTA_TUPLE_ORIG, |tuple| {
            tuple.nest(decode::CTA_TUPLE_IP, |ip| {
                let ends = [
                    (decode::CTA_IP_V4_SRC, self.src),
                    (decode::CTA_IP_V4_DST, self.dst),
                ];
                for (kind, address) in ends {
                    if let Some(address) = address {
                        ip.bytes(kind, address.octets());
                    }
                }
            });
            let Some(protocol) = self.protocol else {
                return;
            };
            tuple.nest(decode::CTA_TUPLE_PROTO, |proto| {
                proto.u8(decode::CTA_PROTO_NUM, protocol);
                let ports = [
                    (decode::CTA_PROTO_SRC_PORT, self.src_port),
                    (decode::CTA_PROTO_DST_PORT, self.dst_port),
                ];
                for (kind, port) in ports {
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
