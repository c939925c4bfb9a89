//! Connection tracking by nfnetlink: list flows, delete those that are meant.
//!
//! The kernel's own filter is asked only for IPv4: its IPv6 half matches the flows that it should
//! not on Linux 6.1. What it lets through is matched again here, so a kernel without the filter
//! costs time and nothing else.

mod decode;

use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use patchbay_protocols::conntrack::Filter;
use patchbay_protocols::ipvs::Family;

use crate::netlink::{Batch, Error, Flags, Kernel, Netfilter, dump};

pub use decode::Tracked;

/// `NFNL_SUBSYS_CTNETLINK << 8`, and its messages.
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;

/// Bits of `CTA_FILTER_ORIG_FLAGS`.
const BY_SRC: u32 = 1;
const BY_DST: u32 = 2;
const BY_PROTOCOL: u32 = 8;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `nfgenmsg`: family, version 0, resource 0.
fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// Every flow that agrees with the whole filter.
pub fn matching(
    kernel: &mut impl Kernel<Netfilter>,
    filter: &Filter,
) -> Result<Vec<Tracked>, Error> {
    let keep = |payload: &[u8]| {
        let tracked = decode::flow(payload)?;
        Ok(tracked.filter(|tracked| filter.matches(&tracked.flow)))
    };
    if let Some(request) = filtered(filter) {
        match dump(kernel, &request, keep) {
            Err(Error::Refused(refusal))
                if refusal.is(Errno::EINVAL) || refusal.is(Errno::EOPNOTSUPP) => {}
            done => return done,
        }
    }
    let family = match filter.parts().family {
        None => 0,
        Some(Family::V4) => AF_INET,
        Some(Family::V6) => AF_INET6,
    };
    let request = Batch::of(GET, Flags::Dump, |body| body.raw(&header(family)));
    dump(kernel, &request, keep)
}

/// A dump that the kernel filters by whole IPv4 addresses and the protocol.
fn filtered(filter: &Filter) -> Option<Batch<Netfilter>> {
    let parts = filter.parts();
    let whole = |net: Option<IpNet>| match net {
        Some(IpNet::V4(net)) if net.prefix_len() == 32 => Some(net.addr()),
        _ => None,
    };
    let (src, dst) = (whole(parts.orig.src), whole(parts.orig.dst));
    if src.is_none() && dst.is_none() {
        return None;
    }
    let flags = src.map_or(0, |_| BY_SRC)
        | dst.map_or(0, |_| BY_DST)
        | parts.protocol.as_ref().map_or(0, |_| BY_PROTOCOL);
    Some(Batch::of(GET, Flags::Dump, |body| {
        body.raw(&header(AF_INET));
        body.nest(CTA_TUPLE_ORIG, |tuple| {
            tuple.nest(decode::CTA_TUPLE_IP, |ip| {
                for (kind, address) in [(decode::CTA_IP_V4_SRC, src), (decode::CTA_IP_V4_DST, dst)]
                {
                    if let Some(address) = address {
                        ip.bytes(kind, &address.octets());
                    }
                }
            });
            if let Some(protocol) = parts.protocol {
                tuple.nest(decode::CTA_TUPLE_PROTO, |proto| {
                    proto.u8(decode::CTA_PROTO_NUM, protocol);
                });
            }
        });
        body.nest(CTA_FILTER, |nest| {
            nest.u32(CTA_FILTER_ORIG_FLAGS, flags);
            nest.u32(CTA_FILTER_REPLY_FLAGS, 0);
        });
    }))
}

/// Deletes these flows and returns how many there still were. The id keeps a new flow of the same
/// addresses alive.
pub fn delete(kernel: &mut impl Kernel<Netfilter>, flows: &[Tracked]) -> Result<usize, Error> {
    let mut batch = Batch::default();
    for tracked in flows {
        let family = match tracked.flow.orig.src {
            IpAddr::V4(_) => AF_INET,
            IpAddr::V6(_) => AF_INET6,
        };
        batch.push(DELETE, Flags::Plain, |body| {
            body.raw(&header(family));
            body.nest(CTA_TUPLE_ORIG, |nest| nest.raw(&tracked.orig));
            body.bytes(CTA_ID, &tracked.flow.id.to_be_bytes());
            if tracked.flow.zone != 0 {
                body.bytes(CTA_ZONE, &tracked.flow.zone.to_be_bytes());
            }
        });
    }
    let mut deleted = flows.len();
    for (_, refusal) in kernel.commit(&batch)? {
        if !refusal.is(Errno::ENOENT) {
            return Err(Error::Refused(refusal));
        }
        deleted -= 1;
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use patchbay_protocols::conntrack::parse;

    use super::*;

    #[test]
    fn only_whole_ipv4_addresses_are_the_kernels_to_filter() {
        for (words, filtered_by_kernel) in [
            (&["-d", "10.0.0.1", "-p", "tcp"][..], true),
            (&["-s", "10.0.0.1"], true),
            (&["-d", "10.0.0.0/24"], false),
            (&["-d", "2001:db8::1"], false),
            (&["-p", "tcp"], false),
        ] {
            let filter = parse(words).unwrap();
            assert_eq!(filtered(&filter).is_some(), filtered_by_kernel, "{words:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_answer_ends(payload: Vec<u8>) {
            let _ = decode::flow(&payload);
        }
    }
}
