//! Routes that belong to an operator or a program, and not to the kernel.

use patchbay_types::{Route, RouteSpec};

/// Returns whether `update-routes` removes the route if it isn't wanted.
pub(crate) fn is_managed(route: &Route) -> bool {
    let by_kernel = match route.protocol {
        Some(protocol) => protocol.is_of_kernel(),
        // An agent of the first release doesn't report it.
        None => route.gateway.is_none(),
    };
    !by_kernel && !is_on_loopback(route)
}

pub(crate) fn is_on_loopback(route: &Route) -> bool {
    route.device.as_bytes() == b"lo"
}

/// Returns the request for a route with all of its fields; `None` for one that can't be requested.
pub(crate) fn request(route: &Route) -> Option<RouteSpec> {
    RouteSpec::new(route.as_request()).ok()
}
