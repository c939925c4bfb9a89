//! Routes.

use std::collections::HashMap;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteIp6Tunnel, RouteIpTunnel,
    RouteLwTunnelEncap, RouteMessage, RouteMplsIpTunnel, RouteNextHopFlags, RouteProtocol,
    RouteSeg6IpTunnel, RouteType,
};
use patchbay_protocols::model::{Route as Spoken, Way};

use super::parse;
use crate::netlink::{Batch, Body, Error, Flags, Kernel, Route, dump};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// The kernel counts what is left of a route's life in these (`USER_HZ`), but is told seconds.
const TICKS_PER_SECOND: u32 = 100;

/// A route as the kernel can be told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A new one. There may be thousands: the kernel is told it without a message in between.
    New(New),
    /// One that the kernel listed, whole, so that it can be made again whatever else it has.
    Listed(RouteMessage),
}

/// A new route through a link, in the main table and with protocol boot, as iproute2 makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct New {
    way: Way,
    scope: u8,
    metric: u32,
    index: u32,
}

/// Every route of every table. One that netlink-packet-route can't read (an encapsulation that it
/// does not know) is not for us to touch, and is passed over.
pub fn list(kernel: &mut impl Kernel<Route>) -> Result<Vec<Stored>, Error> {
    let request = Batch::of(RTM_GETROUTE, Flags::Dump, |body| {
        body.emit(&RouteMessage::default());
    });
    dump(kernel, &request, |payload| {
        let message = parse::<RouteMessage>(payload).ok();
        let message = message.filter(|message| can_be_told(&message.attributes));
        Ok(message.map(listed))
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

/// Kinds of attributes: `rtattr_type_t` of linux/rtnetlink.h.
mod rta {
    pub(super) const DST: u16 = 1;
    pub(super) const OIF: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const PREFSRC: u16 = 7;
}

impl New {
    /// `rtmsg` (family, lengths of destination and source, type of service, table, protocol, scope,
    /// type, flags u32) and attributes.
    fn tell(&self, body: &mut Body<'_>) {
        let dest = self.way.dest();
        let family = match dest.addr() {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        body.raw(&[
            family.into(),
            dest.prefix_len(),
            0,
            0,
            RouteHeader::RT_TABLE_MAIN,
            RouteProtocol::Boot.into(),
            self.scope,
            RouteType::Unicast.into(),
            0,
            0,
            0,
            0,
        ]);
        address(body, rta::DST, dest.addr());
        body.u32(rta::OIF, self.index);
        body.u32(rta::PRIORITY, self.metric);
        if let Some(gateway) = self.way.gateway() {
            address(body, rta::GATEWAY, gateway);
        }
        if let Some(source) = self.way.source() {
            address(body, rta::PREFSRC, source);
        }
    }
}

fn address(body: &mut Body<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => body.bytes(kind, v4.octets()),
        IpAddr::V6(v6) => body.bytes(kind, v6.octets()),
    }
}

/// What the kernel reports of a route and refuses to be told is left out.
fn listed(mut message: RouteMessage) -> Stored {
    let header = &mut message.header;
    header.flags.remove(RouteFlags::Dead | RouteFlags::Linkdown);
    let mut expires = None;
    for attribute in &mut message.attributes {
        match attribute {
            RouteAttribute::MultiPath(hops) => {
                for hop in hops {
                    hop.flags
                        .remove(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown);
                }
            }
            RouteAttribute::CacheInfo(info) if info.expires != 0 => {
                expires = Some(RouteAttribute::Expires(info.expires / TICKS_PER_SECOND));
            }
            _ => {}
        }
    }
    message
        .attributes
        .retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
    message.attributes.extend(expires);
    Stored::Listed(message)
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
            Self::Listed(message) => body.emit(message),
        }
    }

    /// Whether the kernel made it by itself: from an address, a redirect or a router's
    /// advertisement. It makes such a route again when it sees fit.
    #[must_use]
    pub fn made_by_kernel(&self) -> bool {
        let Self::Listed(message) = self else {
            return false;
        };
        matches!(
            message.header.protocol,
            RouteProtocol::Kernel | RouteProtocol::IcmpRedirect | RouteProtocol::Ra
        )
    }

    /// Whether packets go through link `index`, on one of several ways perhaps.
    #[must_use]
    pub fn uses(&self, index: u32) -> bool {
        let message = match self {
            Self::New(new) => return new.index == index,
            Self::Listed(message) => message,
        };
        message.attributes.iter().any(|attribute| match attribute {
            RouteAttribute::Oif(oif) => *oif == index,
            RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == index),
            _ => false,
        })
    }

    /// Whether packets go to a router, to which there must be a route before this one.
    #[must_use]
    pub fn has_gateway(&self) -> bool {
        let message = match self {
            Self::New(new) => return new.way.gateway().is_some(),
            Self::Listed(message) => message,
        };
        message.attributes.iter().any(|attribute| {
            matches!(
                attribute,
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_)
            )
        })
    }

    /// The preferred address of our own.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        let message = match self {
            Self::New(new) => return new.way.source(),
            Self::Listed(message) => message,
        };
        message.attributes.iter().find_map(|part| match part {
            RouteAttribute::PrefSource(address) => ip(address),
            _ => None,
        })
    }

    /// A listed one in the words that we share with the host, given the names of the links. `None`
    /// for what they can't say: other tables, other types than unicast, several ways or a way of
    /// the other family, encapsulation, a type of service, nexthop objects, IPv6 subtrees.
    #[must_use]
    pub fn spoken(&self, names: &HashMap<u32, String>) -> Option<Spoken> {
        let Self::Listed(message) = self else {
            return None;
        };
        let header = &message.header;
        let plain = header.kind == RouteType::Unicast
            && header.table == RouteHeader::RT_TABLE_MAIN
            && header.tos == 0
            && header.source_prefix_length == 0;
        let mut dest = match header.address_family {
            AddressFamily::Inet => IpAddr::from([0; 4]),
            AddressFamily::Inet6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let (mut gateway, mut source, mut index, mut metric) = (None, None, None, 0);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => dest = ip(address)?,
                RouteAttribute::Gateway(address) => gateway = Some(ip(address)?),
                RouteAttribute::PrefSource(address) => source = Some(ip(address)?),
                RouteAttribute::Oif(oif) => index = Some(*oif),
                RouteAttribute::Priority(priority) => metric = *priority,
                RouteAttribute::MultiPath(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::Encap(_)
                | RouteAttribute::NhId(_)
                | RouteAttribute::Iif(_) => return None,
                _ => {}
            }
        }
        let dest = ipnet::IpNet::new(dest, header.destination_prefix_length).ok()?;
        Some(Spoken {
            way: plain.then(|| Way::new(dest, gateway, source).ok())??,
            device: names.get(&index?)?.clone(),
            scope: header.scope.into(),
            metric,
        })
    }
}

/// netlink-packet-route reads more encapsulations than it can write: it panics, or writes what it
/// can't read. Those that are known to survive are listed.
fn can_be_told(attributes: &[RouteAttribute]) -> bool {
    let survives = |encap: &RouteLwTunnelEncap| match encap {
        RouteLwTunnelEncap::Mpls(part) => !matches!(part, RouteMplsIpTunnel::Other(_)),
        RouteLwTunnelEncap::Ip(part) => !matches!(part, RouteIpTunnel::Other(_)),
        RouteLwTunnelEncap::Ip6(part) => !matches!(part, RouteIp6Tunnel::Other(_)),
        RouteLwTunnelEncap::Seg6(RouteSeg6IpTunnel::Seg6(header)) => !header.segments.is_empty(),
        _ => false,
    };
    attributes.iter().all(|attribute| match attribute {
        RouteAttribute::Encap(encaps) => encaps.iter().all(survives),
        RouteAttribute::MultiPath(hops) => hops.iter().all(|hop| can_be_told(&hop.attributes)),
        _ => true,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use patchbay_protocols::model::{RouteParts, RouteSpec, Scope};

    use super::*;

    /// As netlink-packet-route reads what the kernel is told.
    fn as_listed(stored: &Stored) -> Stored {
        let mut batch = Batch::default();
        add(&mut batch, stored);
        listed(parse(&batch.bytes()[16..]).unwrap())
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
            assert_eq!(as_listed(&stored).spoken(&names), Some(route));
            assert_eq!(stored.has_gateway(), gateway.is_some());
            assert!(stored.uses(3) && !stored.uses(4) && !stored.made_by_kernel());
        }
    }

    #[test]
    fn a_route_that_would_panic_when_told_is_not_listed() {
        use netlink_packet_route::route::{RouteNextHop, Seg6Header};
        let encap = |segments| {
            let mut header = Seg6Header::default();
            header.segments = segments;
            let seg6 = RouteSeg6IpTunnel::Seg6(header);
            vec![RouteAttribute::Encap(vec![RouteLwTunnelEncap::Seg6(seg6)])]
        };
        let hop = |attributes| {
            let mut hop = RouteNextHop::default();
            hop.attributes = attributes;
            [RouteAttribute::MultiPath(vec![hop])]
        };
        assert!(!can_be_told(&encap(vec![])));
        assert!(!can_be_told(&hop(encap(vec![]))));
        let other = netlink_packet_core::DefaultNla::new(54, vec![0; 28]);
        let ip6 = RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Other(other));
        assert!(!can_be_told(&[RouteAttribute::Encap(vec![ip6])]));
        let segment = vec![std::net::Ipv6Addr::LOCALHOST];
        assert!(can_be_told(&encap(segment.clone())));
        assert!(can_be_told(&hop(encap(segment))));
    }

    #[test]
    fn what_cannot_be_said_is_left_out() {
        let spec = RouteSpec::new(RouteParts {
            dest: "10.1.0.0/16".parse().unwrap(),
            gateway: None,
            source: None,
            device: "eth1".parse().unwrap(),
            scope: None,
            metric: None,
        });
        let plain = as_listed(&Stored::new(&spec.unwrap().resolve(), 3));
        let names = HashMap::from([(3, "eth1".to_owned())]);
        let spoken = |break_it: fn(&mut RouteMessage)| {
            let Stored::Listed(mut odd) = plain.clone() else {
                panic!("{plain:?}");
            };
            break_it(&mut odd);
            Stored::Listed(odd).spoken(&names)
        };
        assert!(spoken(|_| {}).is_some());
        assert_eq!(spoken(|m| m.header.kind = RouteType::BlackHole), None);
        assert_eq!(spoken(|m| m.header.table = 100), None);
        assert_eq!(spoken(|m| m.header.tos = 16), None);
        assert_eq!(
            spoken(|m| m.attributes.push(RouteAttribute::MultiPath(vec![]))),
            None
        );
        assert_eq!(spoken(|m| m.attributes.push(RouteAttribute::NhId(1))), None);
        assert_eq!(spoken(|m| m.attributes.push(RouteAttribute::Oif(9))), None);
    }
}
