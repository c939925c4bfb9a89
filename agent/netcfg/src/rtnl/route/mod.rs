//! Routes as rtnetlink messages.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use libc::{
    RT_TABLE_COMPAT, RTA_CACHEINFO, RTA_DST, RTA_ENCAP, RTA_EXPIRES, RTA_GATEWAY, RTA_IIF,
    RTA_METRICS, RTA_MULTIPATH, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTA_TABLE, RTA_VIA,
    RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE, RTN_UNICAST, RTPROT_KERNEL, RTPROT_REDIRECT,
    RTPROT_UNSPEC,
};
use patchbay_types::ipvs::Family;
use patchbay_types::{LinkName, Onlink, Route, RouteMtu, RouteProtocol, RouteTable, Scope};

use super::{AF_INET, AF_INET6, af, family, header, put_ip, read_ip};
use patchbay_netlink::{
    Attribute, Attrs, Batch, Body, Error, Flags, Rtnetlink, Transport, dump, read_u16, read_u32,
};

/// Size of `rtmsg`: family, lengths of destination and source, type of service, table, protocol,
/// scope, type (a byte each) and flags (u32).
const HEADER: usize = 12;

/// Size of `rtattr`: length and kind, u16 each.
const ATTRIBUTE: usize = 4;

/// `USER_HZ`, the unit in which a dump reports a route's remaining lifetime. Requests use seconds.
const TICKS_PER_SECOND: u32 = 100;

/// Missing in `libc`: `RTA_NH_ID` and `RTPROT_RA` of `linux/rtnetlink.h`.
const RTA_NH_ID: u16 = 30;
const RTPROT_RA: u8 = 9;

/// `RTNH_F_DEAD | RTNH_F_LINKDOWN`: the kernel reports these flags and rejects them in a request.
const DEAD_FLAGS: u8 = 1 | 1 << 4;
/// `RTNH_F_ONLINK`.
const ONLINK_FLAG: u8 = 1 << 2;

/// `RTAX_MTU`, a member of `RTA_METRICS`.
const RTAX_MTU: u16 = 2;

/// Body of an `RTM_NEWROUTE` message. One that was dumped keeps every attribute, known or not, so
/// that the route can be restored; only state that the kernel rejects in a request is removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteMsg(Vec<u8>);

/// Dumps the routes of every table. A malformed one is skipped, so it is never changed.
pub fn list(socket: &mut impl Transport<Rtnetlink>) -> Result<Vec<RouteMsg>, Error> {
    list_selected(socket, None, |_| true)
}

/// Like [`list`], of one family and of those routes that `selects` accepts. The others cost no copy.
pub fn list_selected(
    socket: &mut impl Transport<Rtnetlink>,
    family: Option<Family>,
    selects: impl Fn(RouteView<'_>) -> bool,
) -> Result<Vec<RouteMsg>, Error> {
    let request = Batch::of(RTM_GETROUTE, Flags::Dump, |body| {
        body.raw(&[family.map_or(0, af)]);
        body.raw(&[0; HEADER - 4]);
    });
    dump(socket, &request, |payload| {
        let selected = selects(RouteView(payload));
        Ok(selected.then(|| RouteMsg::dumped(payload).ok()).flatten())
    })
}

/// Appends a request that adds the route and fails if its destination and metric are taken.
pub fn add(batch: &mut Batch<Rtnetlink>, route: &RouteMsg) {
    batch.push(RTM_NEWROUTE, Flags::Create, |body| route.encode(body));
}

/// Appends a request that adds the route after others with its destination and metric.
pub fn append(batch: &mut Batch<Rtnetlink>, route: &RouteMsg) {
    batch.push(RTM_NEWROUTE, Flags::Append, |body| route.encode(body));
}

/// Appends a request that deletes exactly this route.
pub fn remove(batch: &mut Batch<Rtnetlink>, route: &RouteMsg) {
    batch.push(RTM_DELROUTE, Flags::Plain, |body| route.encode(body));
}

/// Size of `rtnexthop`: length (u16), flags and weight (u8 each), and the link's index (u32). Its
/// attributes follow.
const NEXT_HOP: usize = 8;

/// Length of the first next hop in `hops`.
fn next_hop(hops: &[u8]) -> Option<Result<usize, Error>> {
    let length = hops.get(..2)?;
    let length = read_u16(length).map(usize::from);
    let fits = |length: usize| (NEXT_HOP..=hops.len()).contains(&length).then_some(length);
    let torn = Error::Malformed("a next hop is longer than its route");
    Some(length.and_then(|length| fits(length).ok_or(torn)))
}

/// Changes the flags of the next hops of a multipath route; `change` gets the length of the hop, too.
fn change_flags(mut hops: &mut [u8], change: fn(usize, u8) -> u8) -> Result<(), Error> {
    while let Some(length) = next_hop(hops).transpose()? {
        hops[2] = change(length, hops[2]);
        let next = length.next_multiple_of(4).min(hops.len());
        hops = &mut hops[next..];
    }
    Ok(())
}

/// Returns the indexes of the links that the next hops use.
fn next_hop_links(mut hops: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let length = next_hop(hops)?.ok()?;
        let index = hops
            .get(4..NEXT_HOP)
            .and_then(|bytes| read_u32(bytes).ok())?;
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(index)
    })
}

/// Route in a message that is not copied.
#[derive(Debug, Clone, Copy)]
pub struct RouteView<'a>(&'a [u8]);

impl<'a> RouteView<'a> {
    fn header(self) -> [u8; HEADER] {
        self.0.first_chunk().copied().unwrap_or_default()
    }

    /// The attributes up to the first malformed one. A message that was built or dumped has none.
    fn attributes(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        Attrs::after(HEADER, self.0)
            .into_iter()
            .flatten()
            .map_while(Result::ok)
    }

    /// Returns whether the kernel made the route by itself, from an address, a redirect or a router
    /// advertisement. It recreates such a route when needed.
    #[must_use]
    pub fn made_by_kernel(self) -> bool {
        let [_, _, _, _, _, protocol, ..] = self.header();
        [RTPROT_KERNEL, RTPROT_REDIRECT, RTPROT_RA].contains(&protocol)
    }

    /// Returns whether the route, or one of its next hops, uses link `index`.
    #[must_use]
    pub fn uses(self, index: u32) -> bool {
        self.attributes().any(|(kind, value)| match kind {
            RTA_OIF => read_u32(value).is_ok_and(|oif| oif == index),
            RTA_MULTIPATH => next_hop_links(value).any(|link| link == index),
            _ => false,
        })
    }

    /// Returns whether the route has a gateway, which another route must reach first.
    #[must_use]
    pub fn has_gateway(self) -> bool {
        let gateways = [RTA_GATEWAY, RTA_VIA, RTA_MULTIPATH];
        self.attributes().any(|(kind, _)| gateways.contains(&kind))
    }

    /// Returns the preferred source address.
    #[must_use]
    pub fn source(self) -> Option<IpAddr> {
        let mut attributes = self.attributes();
        let (_, value) = attributes.find(|(kind, _)| *kind == RTA_PREFSRC)?;
        read_ip(value).ok()
    }
}

impl RouteMsg {
    /// Builds a route through link `index`.
    #[must_use]
    pub fn new(route: &Route, index: u32) -> Self {
        let Route {
            dest,
            gateway,
            source,
            device: _,
            scope,
            metric,
            onlink,
            mtu,
            protocol,
            table,
        } = route;
        let mut bytes = Vec::new();
        let mut body = Body::new(&mut bytes);
        let [family, bits] = [family(dest.addr()), dest.prefix_len()];
        let protocol = protocol.map_or(RTPROT_UNSPEC, RouteProtocol::get);
        // The attribute has the number of the table.
        let table_byte = u8::try_from(table.get()).unwrap_or(RT_TABLE_COMPAT);
        body.raw(&[
            family,
            bits,
            0,
            0,
            table_byte,
            protocol,
            scope.get(),
            RTN_UNICAST,
        ]);
        body.raw(&match onlink {
            Onlink::Off => [0; 4],
            Onlink::On => u32::from(ONLINK_FLAG).to_ne_bytes(),
        });
        put_ip(&mut body, RTA_DST, dest.addr());
        body.u32(RTA_TABLE, table.get());
        body.u32(RTA_OIF, index);
        body.u32(RTA_PRIORITY, *metric);
        if let Some(gateway) = gateway {
            put_ip(&mut body, RTA_GATEWAY, *gateway);
        }
        if let Some(source) = source {
            put_ip(&mut body, RTA_PREFSRC, *source);
        }
        if let Some(mtu) = mtu {
            body.nest(RTA_METRICS, |nest| nest.u32(RTAX_MTU, mtu.get().into()));
        }
        Self(bytes)
    }

    /// Takes a route from a dump.
    pub(super) fn dumped(payload: &[u8]) -> Result<Self, Error> {
        let mut bytes = Vec::with_capacity(payload.len() + ATTRIBUTE);
        bytes.extend_from_slice(header::<HEADER>(payload)?);
        // All of DEAD_FLAGS are in the lowest byte.
        let flags = read_u32(&bytes[8..])? & !u32::from(DEAD_FLAGS);
        bytes[8..].copy_from_slice(&flags.to_ne_bytes());
        let mut expires = 0;
        for attribute in Attrs::after(HEADER, payload)?.raw_attrs() {
            let Attribute {
                kind,
                value,
                encoded,
            } = attribute?;
            match kind {
                // rta_cacheinfo: reference count, last use, remaining lifetime (u32 each), and more.
                RTA_CACHEINFO => expires = value.get(8..12).map_or(Ok(0), read_u32)?,
                RTA_MULTIPATH => {
                    let hops = bytes.len() + ATTRIBUTE;
                    bytes.extend_from_slice(encoded);
                    let hops = &mut bytes[hops..hops + value.len()];
                    change_flags(hops, |_, flags| flags & !DEAD_FLAGS)?;
                }
                _ => bytes.extend_from_slice(encoded),
            }
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        if expires != 0 {
            Body::new(&mut bytes).u32(RTA_EXPIRES, expires / TICKS_PER_SECOND);
        }
        Ok(Self(bytes))
    }

    /// Returns the same route with its gateways taken to be on the link, where the kernel doesn't look
    /// for a route to them. Those of a multipath route all get the flag.
    #[must_use]
    pub fn on_link(&self) -> Self {
        let mut bytes = self.view().header().to_vec();
        let mut flags = u32::from(ONLINK_FLAG);
        let attributes = Attrs::after(HEADER, &self.0).into_iter();
        for attribute in attributes.flat_map(Attrs::raw_attrs).flatten() {
            let value = bytes.len() + ATTRIBUTE;
            bytes.extend_from_slice(attribute.encoded);
            if attribute.kind == RTA_MULTIPATH {
                flags = 0;
                let hops = &mut bytes[value..value + attribute.value.len()];
                // The kernel rejects the flag at a hop without a gateway, which has no attributes. A
                // malformed route is rejected when it is dumped.
                let _ = change_flags(hops, |length, flags| match length {
                    NEXT_HOP => flags,
                    _ => flags | ONLINK_FLAG,
                });
            }
        }
        let flags = flags | read_u32(&bytes[8..HEADER]).unwrap_or_default();
        bytes[8..HEADER].copy_from_slice(&flags.to_ne_bytes());
        Self(bytes)
    }

    /// Writes the message as a request. A dump shows what a nexthop object contains, and the kernel rejects that
    /// beside the number of the object.
    fn encode(&self, body: &mut Body<'_>) {
        let of_object = [RTA_OIF, RTA_GATEWAY, RTA_VIA, RTA_MULTIPATH];
        if self.view().attributes().all(|(kind, _)| kind != RTA_NH_ID) {
            return body.raw(&self.0);
        }
        body.raw(&self.view().header());
        let attributes = Attrs::after(HEADER, &self.0).into_iter();
        for attribute in attributes.flat_map(Attrs::raw_attrs).flatten() {
            if !of_object.contains(&attribute.kind) {
                body.raw(attribute.encoded);
            }
        }
    }

    /// Returns the message without a copy.
    #[must_use]
    pub fn view(&self) -> RouteView<'_> {
        RouteView(&self.0)
    }

    /// Converts the message, given the names of the links by index. `None` if the shared type can't
    /// express the route: other types than unicast, several next hops or one of the other family,
    /// encapsulation, a type of service, nexthop objects, IPv6 subtrees.
    #[must_use]
    pub fn to_route(&self, names: &HashMap<u32, LinkName>) -> Option<Route> {
        let [
            family,
            bits,
            source_bits,
            tos,
            table,
            protocol,
            scope,
            kind,
            flags @ ..,
        ] = self.view().header();
        if kind != RTN_UNICAST || tos != 0 || source_bits != 0 {
            return None;
        }
        let mut dest = match family {
            AF_INET => IpAddr::from([0; 4]),
            AF_INET6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let (mut gateway, mut source, mut index, mut metric) = (None, None, None, 0);
        let (mut table, mut mtu) = (u32::from(table), None);
        for (kind, value) in self.view().attributes() {
            match kind {
                RTA_DST => dest = read_ip(value).ok()?,
                RTA_GATEWAY => gateway = Some(read_ip(value).ok()?),
                RTA_PREFSRC => source = Some(read_ip(value).ok()?),
                RTA_OIF => index = Some(read_u32(value).ok()?),
                RTA_PRIORITY => metric = read_u32(value).ok()?,
                RTA_TABLE => table = read_u32(value).ok()?,
                RTA_METRICS => mtu = Attrs::after(0, value).ok()?.find(RTAX_MTU).ok()?,
                RTA_MULTIPATH | RTA_VIA | RTA_ENCAP | RTA_NH_ID | RTA_IIF => return None,
                _ => {}
            }
        }
        let route = Route {
            dest: IpNet::new(dest, bits).ok()?,
            gateway,
            source,
            device: names.get(&index?)?.clone(),
            scope: Scope::try_from(u64::from(scope)).ok()?,
            metric,
            onlink: Onlink::from(u32::from_ne_bytes(flags) & u32::from(ONLINK_FLAG) != 0),
            mtu: mtu.and_then(|bytes| RouteMtu::try_from(u64::from(read_u32(bytes).ok()?)).ok()),
            protocol: RouteProtocol::try_from(u64::from(protocol)).ok(),
            table: RouteTable::try_from(u64::from(table)).ok()?,
        };
        route.checked().ok()
    }
}

#[cfg(test)]
mod tests;
