//! Routes: as yet only kept over the moment in which their link has to be down.

use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol};

use super::parse;
use crate::netlink::{Batch, Error, Flags, Kernel, Route, dump};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

/// The routes through link `index` that the kernel did not make by itself, in an order in which
/// they can be made again: those without a gateway first.
pub fn through(kernel: &mut impl Kernel<Route>, index: u32) -> Result<Vec<RouteMessage>, Error> {
    let request = Batch::of(RTM_GETROUTE, Flags::Dump, |body| {
        body.emit(&RouteMessage::default());
    });
    let mut routes = dump(kernel, &request, |payload| {
        let route: RouteMessage = parse(payload)?;
        let here = route.attributes.contains(&RouteAttribute::Oif(index));
        Ok((here && route.header.protocol != RouteProtocol::Kernel).then_some(route))
    })?;
    let gateway =
        |a: &RouteAttribute| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
    routes.sort_by_key(|route| route.attributes.iter().any(gateway));
    Ok(routes)
}

/// Adds to a batch: the route as it was listed.
pub fn add(batch: &mut Batch<Route>, route: &RouteMessage) {
    let mut route = route.clone();
    // The kernel reports these states here, and refuses to be told them.
    route
        .header
        .flags
        .remove(RouteFlags::Dead | RouteFlags::Linkdown);
    route
        .attributes
        .retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
    batch.push(RTM_NEWROUTE, Flags::Create, |body| body.emit(&route));
}
