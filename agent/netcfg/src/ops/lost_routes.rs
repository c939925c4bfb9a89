//! Routes that the kernel removes with an address or while a link is down, and adding them again.
//!
//! Removing the last IPv4 address of a link removes all its IPv4 routes, removing any address the
//! routes that prefer it as their source.

use std::collections::HashSet;
use std::net::IpAddr;

use nix::errno::Errno;
use patchbay_netlink::{Batch, KernelError, Transport as _};
use patchbay_types::ipvs::Family;

use super::{ConfigAction, Error, Sockets};
use crate::rtnl::route::{self, RouteMsg, RouteView};

/// Handling of a route that can't be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnFailure {
    /// Return the error: the link has the addresses that it had with the route.
    Fail,
    /// Drop the route: it can need an address that was removed on request.
    Drop,
}

/// Routes of one or both families that can be lost.
#[derive(Debug, Default)]
pub(super) struct LostRoutes {
    family: Option<Family>,
    routes: Vec<RouteMsg>,
}

impl LostRoutes {
    /// Reads the routes with one of these sources, and those through the link `all_of`. The kernel's own
    /// routes are left out, since it adds them again.
    pub(super) fn read(
        sockets: &mut Sockets,
        family: Option<Family>,
        all_of: Option<u32>,
        sources: impl Iterator<Item = IpAddr>,
    ) -> Result<Self, Error> {
        let is_of_link = |route: RouteView<'_>| all_of.is_some_and(|index| route.uses(index));
        let mut routes = route::list_selected(&mut sockets.route, family, |route| {
            !route.made_by_kernel() && (route.source().is_some() || is_of_link(route))
        })?;
        // Few routes have a source, and a link can have thousands of addresses.
        if routes.iter().any(|route| route.view().source().is_some()) {
            let sources: HashSet<_> = sources.collect();
            routes.retain(|route| {
                let source = route.view().source();
                source.is_some_and(|source| sources.contains(&source)) || is_of_link(route.view())
            });
        }
        Ok(Self { family, routes })
    }

    /// Adds the routes that are missing, as many as the kernel accepts. A gateway that another address had
    /// made reachable is one no longer once that address is replaced, but the kernel keeps the route; it
    /// accepts such a gateway again with the on-link flag only.
    ///
    /// # Errors
    /// The first one of the kernel.
    pub(super) fn restore(
        &self,
        sockets: &mut Sockets,
        on_failure: OnFailure,
    ) -> Result<(), Error> {
        if self.routes.is_empty() {
            return Ok(());
        }
        let present = route::list_selected(&mut sockets.route, self.family, |_| true)?;
        let present: HashSet<&RouteMsg> = present.iter().collect();
        let missing = self.routes.iter().filter(|route| !present.contains(route));
        let (far, near): (Vec<_>, Vec<_>) = missing.partition(|route| route.view().has_gateway());
        let near = add(sockets, &near, on_failure)?;
        let far = add(sockets, &far, on_failure)?.into_iter();
        let (unreachable, far): (Vec<_>, Vec<_>) =
            far.partition(|(_, error)| is_unreachable(error));
        let on_link: Vec<_> = unreachable
            .iter()
            .map(|(route, _)| route.on_link())
            .collect();
        let on_link: Vec<_> = on_link.iter().collect();
        let on_link = add(sockets, &on_link, on_failure)?;
        match near.into_iter().chain(far).chain(on_link).next() {
            Some((_, error)) => Err(Error::Refused {
                action: ConfigAction::RestoreRoute,
                error,
            }),
            None => Ok(()),
        }
    }
}

/// Adds routes. Returns those that the kernel refused, with its errors.
fn add<'a>(
    sockets: &mut Sockets,
    routes: &[&'a RouteMsg],
    on_failure: OnFailure,
) -> Result<Vec<(&'a RouteMsg, KernelError)>, Error> {
    let mut batch = Batch::default();
    let mut requests = Vec::new();
    for route in routes {
        // The kernel keeps an IPv6 route whose source is removed, without its source.
        if route.view().source().is_some_and(|source| source.is_ipv6()) {
            route::remove(&mut batch, route);
        }
        route::add(&mut batch, route);
        requests.resize(batch.len(), *route);
    }
    let errors = sockets.route.send(&batch)?.into_iter();
    let refused = errors.filter(|(_, error)| !is_acceptable(error, on_failure));
    Ok(refused
        .map(|(position, error)| (requests[position], error))
        .collect())
}

fn is_unreachable(error: &KernelError) -> bool {
    error.is(Errno::ENETUNREACH) || error.is(Errno::EHOSTUNREACH)
}

fn is_acceptable(error: &KernelError, on_failure: OnFailure) -> bool {
    // The gateway is unreachable, the source was removed, or the link is down.
    let obsolete = [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::EINVAL,
        Errno::ENETDOWN,
    ];
    // The route exists, possibly with a different lifetime; or there is none to remove.
    error.is(Errno::EEXIST)
        || error.is(Errno::ESRCH)
        || on_failure == OnFailure::Drop && obsolete.into_iter().any(|errno| error.is(errno))
}
