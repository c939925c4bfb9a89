//! Routes.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use patchbay_protocols::model::{Route as Spoken, Way};

use super::{AF_INET, AF_INET6, family, header, put_ip, read_ip};
use crate::netlink::{
    Attribute, Attrs, Batch, Body, Error, Flags, Kernel, Route, dump, read_u16, read_u32,
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
pub fn list(kernel: &mut impl Kernel<Route>) -> Result<Vec<Stored>, Error> {
    let request = Batch::of(RTM_GETROUTE, Flags::Dump, |body| body.raw(&[0; HEADER]));
    dump(kernel, &request, |payload| {
        Ok(Listed::read(payload).ok().map(Stored::Listed))
    })
}

/// Adds to a batch: the route, unless there is one to its destination with its metric.
pub fn add(batch: &mut Batch<Route>, route: &Stored) {
    batch.push(RTM_NEWROUTE, Flags::Create, |body| route.tell(body));
}

/// Adds to a batch: exactly this route goes.
pub fn remove(batch: &mut Batch<Route>, route: &Stored) {
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
        for attribute in Attrs::after(HEADER, payload)?.standing() {
            let Attribute { kind, value, whole } = attribute?;
            match kind {
                // rta_cacheinfo: references, last use, what is left of its life, each u32, and more.
                rta::CACHEINFO => expires = value.get(8..12).map_or(Ok(0), read_u32)?,
                rta::MULTIPATH => {
                    let hops = told.len() + ATTRIBUTE;
                    told.extend_from_slice(whole);
                    revive(&mut told[hops..hops + value.len()])?;
                }
                _ => told.extend_from_slice(whole),
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
mod tests {
    use patchbay_protocols::model::{RouteParts, RouteSpec, Scope};

    use super::*;

    fn told(stored: &Stored) -> Vec<u8> {
        let mut batch = Batch::default();
        add(&mut batch, stored);
        batch.bytes()[16..].to_vec()
    }

    fn listed(payload: &[u8]) -> Stored {
        Stored::Listed(Listed::read(payload).unwrap())
    }

    /// The route `10.1.0.0/16 dev eth1`, with what is added to it.
    fn with(more: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let spec = RouteSpec::new(RouteParts {
            dest: "10.1.0.0/16".parse().unwrap(),
            gateway: None,
            source: None,
            device: "eth1".parse().unwrap(),
            scope: None,
            metric: None,
        });
        let mut payload = told(&Stored::new(&spec.unwrap().resolve(), 3));
        more(&mut payload);
        payload
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
    }

    #[test]
    fn a_route_is_told_and_read_alike() {
        for (dest, gateway, source) in [
            ("0.0.0.0/0", Some("10.0.0.1"), None),
            ("10.1.0.0/16", None, Some("10.0.0.2")),
            ("::/0", Some("fe80::1"), Some("fd01::2")),
            ("fd01::/64", None, None),
        ] {
            let spec = RouteSpec::new(RouteParts {
                dest: dest.parse().unwrap(),
                gateway: gateway.map(|ip| ip.parse().unwrap()),
                source: source.map(|ip: &str| ip.parse().unwrap()),
                device: "eth1".parse().unwrap(),
                scope: None::<Scope>,
                metric: Some(7),
            });
            let route = spec.unwrap().resolve();
            let stored = Stored::new(&route, 3);
            let names = HashMap::from([(3, "eth1".to_owned())]);
            let listed = listed(&told(&stored));
            assert_eq!(told(&listed), told(&stored));
            assert_eq!(listed.spoken(&names), Some(route));
            assert_eq!(stored.has_gateway(), gateway.is_some());
            assert!(stored.uses(3) && !stored.uses(4) && !stored.made_by_kernel());
        }
    }

    #[test]
    fn an_encapsulation_that_nobody_knows_is_told_again() {
        let encap = attribute(rta::ENCAP, &[5, 0, 77, 0, 1, 0, 0, 0]);
        let payload = with(|payload| payload.extend(&encap));
        assert_eq!(told(&listed(&payload)), payload);
    }

    #[test]
    fn what_the_kernel_refuses_is_not_told() {
        let hop = |flags: u8, index: u8| [8, 0, flags, 0, index, 0, 0, 0];
        let several = |flags| attribute(rta::MULTIPATH, &[hop(flags, 4), hop(0, 5)].concat());
        let down = listed(&with(|payload| {
            payload[8] = DOWN | 4;
            payload.extend(several(DOWN | 4));
        }));
        let up = with(|payload| {
            payload[8] = 4;
            payload.extend(several(4));
        });
        assert_eq!(told(&down), up);
        assert!(down.uses(4) && down.uses(5) && !down.uses(6) && down.has_gateway());
    }

    #[test]
    fn what_is_left_of_a_life_is_told_in_seconds() {
        let mut info = [0; 32];
        info[8..12].copy_from_slice(&6000u32.to_ne_bytes());
        let dying = listed(&with(|p| p.extend(attribute(rta::CACHEINFO, &info))));
        let expires = attribute(rta::EXPIRES, &60u32.to_ne_bytes());
        assert_eq!(told(&dying), with(|p| p.extend(expires)));
    }

    #[test]
    fn what_is_torn_is_passed_over() {
        for torn in [&[9, 0, 4, 0, 0][..], &[2, 0, 4, 0]] {
            let payload = with(|payload| payload.extend(torn));
            assert!(Listed::read(&payload).is_err(), "{torn:?}");
        }
        let hops = with(|p| p.extend(attribute(rta::MULTIPATH, &[9, 0, 0, 0, 1, 0, 0, 0])));
        assert!(Listed::read(&hops).is_err());
        assert!(Listed::read(&[2; 11]).is_err());
    }

    #[test]
    fn what_cannot_be_said_is_left_out() {
        let names = HashMap::from([(3, "eth1".to_owned())]);
        let spoken = |change: &dyn Fn(&mut Vec<u8>)| listed(&with(change)).spoken(&names);
        let adding = |kind| {
            let attribute = attribute(kind, &9u32.to_ne_bytes());
            spoken(&|payload| payload.extend(&attribute))
        };
        assert!(spoken(&|_| {}).is_some());
        // Type of service, table, type of the route.
        for (place, value) in [(3, 16), (4, 100), (7, 6)] {
            assert_eq!(spoken(&|payload| payload[place] = value), None, "{place}");
        }
        for kind in [rta::ENCAP, rta::NH_ID, rta::OIF, rta::VIA, rta::IIF] {
            assert_eq!(adding(kind), None, "{kind}");
        }
        let none = attribute(rta::MULTIPATH, &[]);
        assert_eq!(spoken(&|payload| payload.extend(&none)), None);
    }
}
