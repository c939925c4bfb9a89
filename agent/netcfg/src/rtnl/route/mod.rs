//! Routes.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use patchbay_types::{Route as Spoken, Way};

use super::{AF_INET, AF_INET6, family, header, put_ip, read_ip};
use patchbay_netlink::{
    Attribute, Attrs, Batch, Body, Error, Flags, Rtnetlink, Transport, dump, read_u16, read_u32,
};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// `rtmsg`: family, lengths of destination and source, type of service, table, protocol, scope, type,
/// each a byte, and flags u32.
const HEADER: usize = 12;

/// `rtattr`: length u16, kind u16.
const ATTRIBUTE: usize = 4;

/// The kernel counts what is left of a route's life in these (`USER_HZ`), but is told seconds.
const TICKS_PER_SECOND: u32 = 100;

/// Kinds of attributes: `rtattr_type_t` of `linux/rtnetlink.h`.
mod rta {
    pub(super) const DST: u16 = 1;
    pub(super) const IIF: u16 = 3;
    pub(super) const OIF: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const PREFSRC: u16 = 7;
    pub(super) const MULTIPATH: u16 = 9;
    pub(super) const CACHEINFO: u16 = 12;
    pub(super) const VIA: u16 = 18;
    pub(super) const ENCAP: u16 = 22;
    pub(super) const EXPIRES: u16 = 23;
    pub(super) const NH_ID: u16 = 30;
}

/// `RT_TABLE_MAIN`, `RTN_UNICAST`.
const TABLE_MAIN: u8 = 254;
const UNICAST: u8 = 1;

/// `RTPROT_*`.
mod protocol {
    pub(super) const REDIRECT: u8 = 1;
    pub(super) const KERNEL: u8 = 2;
    pub(super) const BOOT: u8 = 3;
    pub(super) const RA: u8 = 9;
}

/// `RTNH_F_DEAD | RTNH_F_LINKDOWN`: the kernel reports them and refuses to be told.
const DOWN: u8 = 1 | 1 << 4;

/// A route as the kernel can be told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A new one.
    New(New),
    /// One that the kernel listed, so that it can be made again whatever it has.
    Listed(Listed),
}

/// A new route through a link, in the main table and with protocol boot, as iproute2 makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct New {
    way: Way,
    scope: u8,
    metric: u32,
    index: u32,
}

/// The kernel's own message, but for what it reports of a route and refuses to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed(Vec<u8>);

/// Every route of every table. One that can't be read is not for us to touch, and is passed over.
pub fn list(kernel: &mut impl Transport<Rtnetlink>) -> Result<Vec<Stored>, Error> {
    let request = Batch::of(RTM_GETROUTE, Flags::Dump, |body| body.raw(&[0; HEADER]));
    dump(kernel, &request, |payload| {
        Ok(Listed::read(payload).ok().map(Stored::Listed))
    })
}

/// Adds to a batch: the route, unless there is one to its destination with its metric.
pub fn add(batch: &mut Batch<Rtnetlink>, route: &Stored) {
    batch.push(RTM_NEWROUTE, Flags::Create, |body| route.tell(body));
}

/// Adds to a batch: exactly this route goes.
pub fn remove(batch: &mut Batch<Rtnetlink>, route: &Stored) {
    batch.push(RTM_DELROUTE, Flags::Plain, |body| route.tell(body));
}

impl New {
    fn tell(&self, body: &mut Body<'_>) {
        let dest = self.way.dest();
        let [family, bits] = [family(dest.addr()), dest.prefix_len()];
        let (table, protocol) = (TABLE_MAIN, protocol::BOOT);
        body.raw(&[
            family, bits, 0, 0, table, protocol, self.scope, UNICAST, 0, 0, 0, 0,
        ]);
        put_ip(body, rta::DST, dest.addr());
        body.u32(rta::OIF, self.index);
        body.u32(rta::PRIORITY, self.metric);
        if let Some(gateway) = self.way.gateway() {
            put_ip(body, rta::GATEWAY, gateway);
        }
        if let Some(source) = self.way.source() {
            put_ip(body, rta::PREFSRC, source);
        }
    }
}

impl Listed {
    fn read(payload: &[u8]) -> Result<Self, Error> {
        let mut told = header::<HEADER>(payload)?.to_vec();
        // All of those flags are in the lowest byte of the number.
        let flags = read_u32(&told[8..])? & !u32::from(DOWN);
        told[8..].copy_from_slice(&flags.to_ne_bytes());
        let mut expires = 0;
        for attribute in Attrs::after(HEADER, payload)?.raw_attrs() {
            let Attribute {
                kind,
                value,
                encoded,
            } = attribute?;
            match kind {
                // rta_cacheinfo: references, last use, what is left of its life, each u32, and more.
                rta::CACHEINFO => expires = value.get(8..12).map_or(Ok(0), read_u32)?,
                rta::MULTIPATH => {
                    let hops = told.len() + ATTRIBUTE;
                    told.extend_from_slice(encoded);
                    revive(&mut told[hops..hops + value.len()])?;
                }
                _ => told.extend_from_slice(encoded),
            }
        }
        told.resize(told.len().next_multiple_of(4), 0);
        if expires != 0 {
            Body::new(&mut told).u32(rta::EXPIRES, expires / TICKS_PER_SECOND);
        }
        Ok(Self(told))
    }

    fn header(&self) -> [u8; HEADER] {
        self.0.first_chunk().copied().unwrap_or_default()
    }

    /// They were looked through when they were read.
    fn attributes(&self) -> impl Iterator<Item = (u16, &[u8])> {
        Attrs::after(HEADER, &self.0)
            .into_iter()
            .flatten()
            .flatten()
    }

    fn value(&self, wanted: u16) -> Option<&[u8]> {
        let mut attributes = self.attributes();
        attributes.find_map(|(kind, value)| (kind == wanted).then_some(value))
    }
}

/// `rtnexthop`: length u16, flags u8, weight u8, link's index u32, and attributes.
const HOP: usize = 8;

/// The first hop, and those behind it.
fn hop(hops: &[u8]) -> Option<Result<usize, Error>> {
    let length = hops.get(..2)?;
    let length = read_u16(length).map(usize::from);
    let within = |length: usize| (HOP..=hops.len()).contains(&length).then_some(length);
    let torn = Error::Malformed("a hop is longer than its route");
    Some(length.and_then(|length| within(length).ok_or(torn)))
}

/// Takes the flags from the hops of a route that are not to be told.
fn revive(mut hops: &mut [u8]) -> Result<(), Error> {
    while let Some(length) = hop(hops).transpose()? {
        hops[2] &= !DOWN;
        let next = length.next_multiple_of(4).min(hops.len());
        hops = &mut hops[next..];
    }
    Ok(())
}

/// The links through which hops lead.
fn hop_links(mut hops: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let length = hop(hops)?.ok()?;
        let index = hops.get(4..HOP).and_then(|bytes| read_u32(bytes).ok())?;
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(index)
    })
}

impl Stored {
    /// A new one through link `index`.
    #[must_use]
    pub fn new(route: &Spoken, index: u32) -> Self {
        Self::New(New {
            way: route.way,
            scope: route.scope,
            metric: route.metric,
            index,
        })
    }

    fn tell(&self, body: &mut Body<'_>) {
        match self {
            Self::New(new) => new.tell(body),
            Self::Listed(listed) => body.raw(&listed.0),
        }
    }

    /// Whether the kernel made it by itself: from an address, a redirect or a router's
    /// advertisement. It makes such a route again when it sees fit.
    #[must_use]
    pub fn made_by_kernel(&self) -> bool {
        let Self::Listed(listed) = self else {
            return false;
        };
        let [_, _, _, _, _, protocol, ..] = listed.header();
        let kernels = [protocol::KERNEL, protocol::REDIRECT, protocol::RA];
        kernels.contains(&protocol)
    }

    /// Whether packets go through link `index`, on one of several ways perhaps.
    #[must_use]
    pub fn uses(&self, index: u32) -> bool {
        let listed = match self {
            Self::New(new) => return new.index == index,
            Self::Listed(listed) => listed,
        };
        listed.attributes().any(|(kind, value)| match kind {
            rta::OIF => read_u32(value).is_ok_and(|oif| oif == index),
            rta::MULTIPATH => hop_links(value).any(|link| link == index),
            _ => false,
        })
    }

    /// Whether packets go to a router, to which there must be a route before this one.
    #[must_use]
    pub fn has_gateway(&self) -> bool {
        let listed = match self {
            Self::New(new) => return new.way.gateway().is_some(),
            Self::Listed(listed) => listed,
        };
        let routers = [rta::GATEWAY, rta::VIA, rta::MULTIPATH];
        listed.attributes().any(|(kind, _)| routers.contains(&kind))
    }

    /// The preferred address of our own.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        match self {
            Self::New(new) => new.way.source(),
            Self::Listed(listed) => read_ip(listed.value(rta::PREFSRC)?).ok(),
        }
    }

    /// A listed one in the words that we share with the host, given the names of the links. `None`
    /// for what they can't say: other tables, other types than unicast, several ways or a way of
    /// the other family, encapsulation, a type of service, nexthop objects, IPv6 subtrees.
    #[must_use]
    pub fn spoken(&self, names: &HashMap<u32, String>) -> Option<Spoken> {
        let Self::Listed(listed) = self else {
            return None;
        };
        let [family, bits, source_bits, tos, table, _, scope, kind, ..] = listed.header();
        if kind != UNICAST || table != TABLE_MAIN || tos != 0 || source_bits != 0 {
            return None;
        }
        let mut dest = match family {
            AF_INET => IpAddr::from([0; 4]),
            AF_INET6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let (mut gateway, mut source, mut index, mut metric) = (None, None, None, 0);
        for (kind, value) in listed.attributes() {
            match kind {
                rta::DST => dest = read_ip(value).ok()?,
                rta::GATEWAY => gateway = Some(read_ip(value).ok()?),
                rta::PREFSRC => source = Some(read_ip(value).ok()?),
                rta::OIF => index = Some(read_u32(value).ok()?),
                rta::PRIORITY => metric = read_u32(value).ok()?,
                rta::MULTIPATH | rta::VIA | rta::ENCAP | rta::NH_ID | rta::IIF => return None,
                _ => {}
            }
        }
        let dest = IpNet::new(dest, bits).ok()?;
        Some(Spoken {
            way: Way::new(dest, gateway, source).ok()?,
            device: names.get(&index?)?.clone(),
            scope,
            metric,
        })
    }
}

#[cfg(test)]
mod tests;
