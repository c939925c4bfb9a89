//! Routes through a link, as the kernel has them.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteNextHopFlags, RouteProtocol, RouteType,
};
use patchbay_types::{Onlink, RouteMtu, RouteRequest, RouteTable, Scope};

use crate::netns::Rtnetlink;

const BOOT: patchbay_types::RouteProtocol = patchbay_types::RouteProtocol::BOOT;

/// Routes of the main table through a link.
#[derive(Debug, Default)]
pub(super) struct SourceRoutes {
    /// Networks to which the kernel has made a route.
    pub(super) connected: Vec<IpNet>,
    /// The other routes, without a device.
    pub(super) others: Vec<SourceRoute>,
}

/// Route through the link.
pub(super) type SourceRoute = patchbay_types::RouteFields<IpNet, ()>;

/// Lists the unicast routes of the main table through the link, also those that are one hop of a
/// multipath route. Routes of router advertisements, and others with a lifetime, are left out: what renews them
/// reaches the guest too.
pub(super) fn routes(rtnl: &Rtnetlink, link: u32) -> io::Result<SourceRoutes> {
    let mut routes = SourceRoutes::default();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let listed: Vec<RouteNetlinkMessage> =
            rtnl.dump(&RouteNetlinkMessage::GetRoute(request))?;
        for message in listed {
            if let RouteNetlinkMessage::NewRoute(message) = message {
                routes.add(&message, link);
            }
        }
    }
    // The kernel accepts a gateway only if a route leads to it.
    routes.others.sort_by_key(|route| route.gateway.is_some());
    Ok(routes)
}

impl SourceRoutes {
    pub(super) fn add(&mut self, message: &RouteMessage, link: u32) {
        let RouteHeader { kind, protocol, .. } = message.header;
        if kind != RouteType::Unicast || table(message) != u32::from(RouteHeader::RT_TABLE_MAIN) {
            return;
        }
        let Some(dest) = destination(message) else {
            return;
        };
        let is_local = matches!(dest, IpNet::V6(net) if net.addr().is_unicast_link_local());
        let is_learnt = matches!(protocol, RouteProtocol::Ra | RouteProtocol::IcmpRedirect);
        if is_local || is_learnt || expires(message) {
            return;
        }
        if message.header.tos != 0 {
            tracing::warn!("the link's route to {dest} with a type of service is skipped");
            return;
        }
        for hop in hops(message).into_iter().filter(|hop| hop.link == link) {
            let gateway = match hop.gateway {
                Gateway::None => None,
                Gateway::Address(ip) => Some(ip),
                Gateway::Other => {
                    tracing::warn!("the link's route to {dest} can't be mirrored: it is skipped");
                    continue;
                }
            };
            if protocol == RouteProtocol::Kernel && gateway.is_none() {
                self.connected.push(dest);
            }
            self.others.push(route(message, dest, gateway, hop.onlink));
        }
    }

    /// Removes the routes that the kernel makes, except those to networks that `keeps` selects.
    pub(super) fn without_connected(mut self, keeps: impl Fn(IpNet) -> bool) -> Vec<SourceRoute> {
        let kernel = Some(patchbay_types::RouteProtocol::KERNEL);
        self.others
            .retain(|route| route.protocol != kernel || keeps(route.dest));
        self.others
    }
}

/// Removes the routes that need an address which the card doesn't have: as their source, or since their gateway
/// is in none of its `networks`. Keeps the first of several to a destination with the same metric, as those of the
/// hops of one multipath route.
pub(super) fn possible(
    mut routes: Vec<SourceRoute>,
    networks: &[IpNet],
    left_out: &[IpAddr],
) -> Vec<SourceRoute> {
    let is_lost = |source: IpAddr| left_out.contains(&source);
    retain(&mut routes, NEEDS_ADDRESS, |route| {
        !route.source.is_some_and(is_lost)
    });
    let direct = routes.iter().filter(|route| route.gateway.is_none());
    let direct = direct.map(|route| route.dest);
    let direct: Vec<IpNet> = direct.chain(networks.iter().copied()).collect();
    let is_reachable = |gateway: IpAddr| {
        let is_local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        is_local || direct.iter().any(|network| network.contains(&gateway))
    };
    retain(&mut routes, NEEDS_ADDRESS, |route| {
        route.onlink == Onlink::On || route.gateway.is_none_or(is_reachable)
    });
    let mut known = HashSet::new();
    retain(&mut routes, "there is another one", |route| {
        known.insert((route.dest, route.metric))
    });
    routes
}

const NEEDS_ADDRESS: &str = "it needs an address that is not mirrored";

/// Keeps the routes that `is_kept` selects, and warns of the others.
fn retain(
    routes: &mut Vec<SourceRoute>,
    reason: &str,
    mut is_kept: impl FnMut(&SourceRoute) -> bool,
) {
    routes.retain(|route| {
        let is_kept = is_kept(route);
        if !is_kept {
            tracing::warn!("the link's route to {} is skipped: {reason}", route.dest);
        }
        is_kept
    });
}

/// Returns whether a route has a lifetime.
fn expires(message: &RouteMessage) -> bool {
    let mut attributes = message.attributes.iter();
    attributes.any(
        |attribute| matches!(attribute, RouteAttribute::CacheInfo(cache) if cache.expires != 0),
    )
}

/// Next hop of a route.
#[derive(Debug)]
struct Hop {
    link: u32,
    gateway: Gateway,
    onlink: Onlink,
}

/// Gateway of a next hop.
#[derive(Debug, PartialEq, Eq)]
enum Gateway {
    /// The destination is on the link.
    None,
    /// Of the destination's family.
    Address(IpAddr),
    /// Of another family, or a tunnel.
    Other,
}

fn hops(message: &RouteMessage) -> Vec<Hop> {
    let several = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::MultiPath(hops) => Some(hops),
            _ => None,
        });
    if let Some(several) = several {
        let hops = several.iter().map(|hop| Hop {
            link: hop.interface_index,
            gateway: gateway(&hop.attributes),
            onlink: hop.flags.contains(RouteNextHopFlags::Onlink).into(),
        });
        return hops.collect();
    }
    let link = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
    let single = link.map(|link| Hop {
        link,
        gateway: gateway(&message.attributes),
        onlink: message.header.flags.contains(RouteFlags::Onlink).into(),
    });
    single.into_iter().collect()
}

fn gateway(attributes: &[RouteAttribute]) -> Gateway {
    let mut gateway = Gateway::None;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(address) => {
                gateway = ip(address).map_or(Gateway::Other, Gateway::Address);
            }
            RouteAttribute::Via(_) | RouteAttribute::EncapType(_) | RouteAttribute::Encap(_) => {
                return Gateway::Other;
            }
            _ => {}
        }
    }
    gateway
}

fn route(
    message: &RouteMessage,
    dest: IpNet,
    gateway: Option<IpAddr>,
    onlink: Onlink,
) -> SourceRoute {
    let (mut source, mut metric, mut mtu) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Priority(priority) => metric = Some(*priority),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(bytes) => RouteMtu::try_from(u64::from(*bytes)).ok(),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let scope = u64::from(u8::from(message.header.scope));
    let protocol = u64::from(u8::from(message.header.protocol));
    SourceRoute {
        gateway,
        source,
        scope: dest
            .addr()
            .is_ipv4()
            .then(|| Scope::try_from(scope).ok())
            .flatten(),
        metric,
        onlink,
        mtu,
        protocol: patchbay_types::RouteProtocol::try_from(protocol).ok(),
        table: RouteTable::MAIN,
        ..SourceRoute::open(dest, ())
    }
}

fn table(message: &RouteMessage) -> u32 {
    let wide = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    wide.unwrap_or(message.header.table.into())
}

fn destination(message: &RouteMessage) -> Option<IpNet> {
    let header = &message.header;
    let given = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => ip(address),
            _ => None,
        });
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    IpNet::new(given.unwrap_or(any), header.destination_prefix_length).ok()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// Returns the request for the route through a card.
pub(super) fn request(route: SourceRoute, device: &patchbay_types::IfName) -> RouteRequest {
    let dest = route.dest;
    let mut request = route.with_dest_and_device(dest, device.into());
    // The default, which an agent of the first release sets too; the kernel's own is for the routes of
    // addresses.
    request
        .protocol
        .take_if(|protocol| [patchbay_types::RouteProtocol::KERNEL, BOOT].contains(protocol));
    request
}
