//! Changing the addresses of a link with as little loss as the kernel allows.
//!
//! Three kernel behaviours matter. Removing an IPv4 address also removes the later ones of its network
//! (its secondaries, unless `promote_secondaries` is on), and removing the last one removes every
//! route of the link. Removing any address removes the routes that prefer it as their source. And an
//! IPv6 address can't have two prefix lengths at once. So new addresses are added before old ones are
//! removed, and routes that were lost are restored.

use std::net::IpAddr;
use std::ops::DerefMut;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use patchbay_types::{DadPolicy, InterfaceAddress};

use super::step::{send, send_ignoring};
use super::{ConfigAction, Error, Sockets};
use crate::device;
use crate::rtnl::address::{self, DadState};
use crate::rtnl::route::{self, RouteMsg};
use patchbay_netlink::{Batch, KernelError};

/// Timeout of duplicate address detection. The kernel starts within a second and takes another one;
/// software emulation is slow.
const DAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes `wanted` the addresses of link `index`.
pub(super) fn set(
    sockets: &mut Sockets,
    index: u32,
    wanted: &[InterfaceAddress],
    duplicates: DadPolicy,
) -> Result<(), Error> {
    let current = address::of(&mut sockets.route, index)?;
    let unwanted: Vec<_> = current.iter().filter(|a| !wanted.contains(a)).collect();
    let blocks_new = |old: &InterfaceAddress| {
        old.ip().is_ipv6() && wanted.iter().any(|new| new.ip() == old.ip())
    };
    let (blocking, others): (Vec<_>, Vec<_>) = unwanted.into_iter().partition(|a| blocks_new(a));
    remove(sockets, index, &blocking)?;
    let new: Vec<_> = wanted.iter().filter(|a| !current.contains(a)).collect();
    add(sockets, index, &new, duplicates)?;
    if others.is_empty() {
        return Ok(());
    }
    remove(sockets, index, &others)?;
    let left = address::of(&mut sockets.route, index)?;
    let lost: Vec<_> = wanted.iter().filter(|a| !left.contains(a)).collect();
    add(sockets, index, &lost, duplicates)
}

fn add(
    sockets: &mut Sockets,
    index: u32,
    addresses: &[&InterfaceAddress],
    duplicates: DadPolicy,
) -> Result<(), Error> {
    let mut batch = Batch::default();
    for new in addresses {
        address::add(&mut batch, index, **new, duplicates);
    }
    send(sockets, &batch, |position| {
        ConfigAction::AddAddress(*addresses[position])
    })
}

fn remove(sockets: &mut Sockets, index: u32, addresses: &[&InterfaceAddress]) -> Result<(), Error> {
    let mut batch = Batch::default();
    for old in addresses {
        address::remove(&mut batch, index, **old);
    }
    // A secondary can be gone already, with its primary.
    let removed = |error: &KernelError| error.is(Errno::EADDRNOTAVAIL);
    send_ignoring(sockets, &batch, removed, |position| {
        ConfigAction::RemoveAddress(*addresses[position])
    })
}

/// Lists the routes that a change of link `index` can remove: routes through it, and routes whose
/// source is one of its addresses. They are sorted so that they can be added again in this order.
pub(super) fn dependent_routes(
    sockets: &mut Sockets,
    index: u32,
    addresses: &[InterfaceAddress],
) -> Result<Vec<RouteMsg>, Error> {
    let is_own = |source: IpAddr| addresses.iter().any(|address| address.ip() == source);
    let mut routes = route::list(&mut sockets.route)?;
    routes.retain(|route| {
        !route.made_by_kernel() && (route.uses(index) || route.source().is_some_and(is_own))
    });
    routes.sort_by_key(RouteMsg::has_gateway);
    Ok(routes)
}

/// Handling of a route that can't be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnFailure {
    /// Return the error: the link has the addresses that it had with the route.
    Fail,
    /// Drop the route: it can need an address that was removed on request.
    Drop,
}

/// Adds the routes that are missing.
pub(super) fn restore_routes(
    sockets: &mut Sockets,
    routes: &[RouteMsg],
    on_failure: OnFailure,
) -> Result<(), Error> {
    if routes.is_empty() {
        return Ok(());
    }
    let current = route::list(&mut sockets.route)?;
    let missing = routes.iter().filter(|route| !current.contains(route));
    let (far, near): (Vec<_>, Vec<_>) = missing.partition(|route| route.has_gateway());
    for group in [near, far] {
        let mut batch = Batch::default();
        for route in group {
            route::add(&mut batch, route);
        }
        let ignored = |error: &KernelError| is_acceptable(error, on_failure);
        send_ignoring(sockets, &batch, ignored, |_| ConfigAction::RestoreRoute)?;
    }
    Ok(())
}

fn is_acceptable(error: &KernelError, on_failure: OnFailure) -> bool {
    // The gateway is unreachable, the source was removed, or the link is down.
    let obsolete = [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::EINVAL,
        Errno::ENETDOWN,
    ];
    // The route exists, possibly with a different lifetime.
    error.is(Errno::EEXIST)
        || on_failure == OnFailure::Drop && obsolete.into_iter().any(|errno| error.is(errno))
}

/// Waits until duplicate address detection has finished for all addresses of link `index`.
pub(super) fn wait_for_dad<S: DerefMut<Target = Sockets>>(
    index: u32,
    mut lock: impl FnMut() -> S,
) -> Result<(), Error> {
    let mut tentative = None;
    let finished = device::wait_until(Instant::now() + DAD_TIMEOUT, || {
        let mut listed = address::list(&mut lock().route)?;
        listed.retain(|listed| listed.index == index);
        let in_state = |state| listed.iter().find(|listed| listed.dad == state);
        if let Some(duplicate) = in_state(DadState::Duplicate) {
            return Err(Error::Duplicate(duplicate.address));
        }
        tentative = in_state(DadState::Tentative).map(|listed| listed.address);
        Ok(tentative.is_none().then_some(()))
    })?;
    match (finished, tentative) {
        (None, Some(address)) => Err(Error::Tentative(address)),
        _ => Ok(()),
    }
}
