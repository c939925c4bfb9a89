//! From the addresses that a link has to those that it shall have, with as little loss as the kernel
//! allows.
//!
//! Three habits of the kernel stand in the way. An IPv4 address takes with it the later ones of its
//! network (its secondaries, unless `promote_secondaries` is on), and the last one every route of
//! the link. Any address takes the routes that prefer it as their source. And an IPv6 address can't
//! have two prefix lengths at once. So the new come before the old go, and what went along is put
//! back.

use std::net::IpAddr;
use std::ops::DerefMut;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use patchbay_types::{DadPolicy, InterfaceAddress};

use super::{Error, Sockets, Step};
use crate::device;
use crate::rtnl::address::{self, Progress};
use crate::rtnl::route::{self, RouteMsg};
use patchbay_netlink::{Batch, KernelError, Transport as _};

/// How long the kernel gets to ask the other hosts about addresses: it begins within a second and
/// asks for one more, and software emulation is slow.
const DETECTION: Duration = Duration::from_secs(5);

/// Makes these the addresses of link `index`.
pub(super) fn set(
    kernel: &mut Sockets,
    index: u32,
    wanted: &[InterfaceAddress],
    duplicates: DadPolicy,
) -> Result<(), Error> {
    let have = address::of(&mut kernel.route, index)?;
    let unwanted: Vec<_> = have.iter().filter(|a| !wanted.contains(a)).collect();
    let in_the_way = |old: &InterfaceAddress| {
        old.ip().is_ipv6() && wanted.iter().any(|new| new.ip() == old.ip())
    };
    let (blocking, others): (Vec<_>, Vec<_>) = unwanted.into_iter().partition(|a| in_the_way(a));
    remove(kernel, index, &blocking)?;
    let new: Vec<_> = wanted.iter().filter(|a| !have.contains(a)).collect();
    add(kernel, index, &new, duplicates)?;
    if others.is_empty() {
        return Ok(());
    }
    remove(kernel, index, &others)?;
    let left = address::of(&mut kernel.route, index)?;
    let lost: Vec<_> = wanted.iter().filter(|a| !left.contains(a)).collect();
    add(kernel, index, &lost, duplicates)
}

fn add(
    kernel: &mut Sockets,
    index: u32,
    addresses: &[&InterfaceAddress],
    duplicates: DadPolicy,
) -> Result<(), Error> {
    let mut batch = Batch::default();
    for new in addresses {
        address::add(&mut batch, index, **new, duplicates);
    }
    let refused = kernel.route.send(&batch)?.into_iter().next();
    told(refused, |position| Step::AddAddress(*addresses[position]))
}

fn remove(kernel: &mut Sockets, index: u32, addresses: &[&InterfaceAddress]) -> Result<(), Error> {
    let mut batch = Batch::default();
    for old in addresses {
        address::remove(&mut batch, index, **old);
    }
    let mut refused = kernel.route.send(&batch)?.into_iter();
    // One that went with another is gone, and that is all that was wanted.
    let refused = refused.find(|(_, refusal)| !refusal.is(Errno::EADDRNOTAVAIL));
    told(refused, |position| {
        Step::RemoveAddress(*addresses[position])
    })
}

fn told(refused: Option<(usize, KernelError)>, step: impl Fn(usize) -> Step) -> Result<(), Error> {
    match refused {
        Some((position, refusal)) => Err(Error::Refused {
            step: step(position),
            refusal,
        }),
        None => Ok(()),
    }
}

/// The routes that a change of link `index` may cost, in an order in which they can be made again:
/// those through it, and those that prefer one of its addresses.
pub(super) fn leaning(
    kernel: &mut Sockets,
    index: u32,
    addresses: &[InterfaceAddress],
) -> Result<Vec<RouteMsg>, Error> {
    let ours = |source: IpAddr| addresses.iter().any(|address| address.ip() == source);
    let mut routes = route::list(&mut kernel.route)?;
    routes.retain(|route| {
        !route.made_by_kernel() && (route.uses(index) || route.source().is_some_and(ours))
    });
    routes.sort_by_key(RouteMsg::has_gateway);
    Ok(routes)
}

/// Whether a route that can't be put back is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Yes: the addresses are what they were.
    Refused,
    /// No: it may need an address that is not wanted any more.
    Expected,
}

/// Puts back those of the routes that are missing.
pub(super) fn put_back(kernel: &mut Sockets, routes: &[RouteMsg], loss: Loss) -> Result<(), Error> {
    if routes.is_empty() {
        return Ok(());
    }
    let now = route::list(&mut kernel.route)?;
    let missing = routes.iter().filter(|route| !now.contains(route));
    let (far, near): (Vec<_>, Vec<_>) = missing.partition(|route| route.has_gateway());
    for group in [near, far] {
        let mut batch = Batch::default();
        for route in group {
            route::add(&mut batch, route);
        }
        let mut refusals = kernel.route.send(&batch)?.into_iter();
        let refused = refusals.find(|(_, refusal)| !passed_over(refusal, loss));
        told(refused, |_| Step::PutBackRoute)?;
    }
    Ok(())
}

fn passed_over(refusal: &KernelError, loss: Loss) -> bool {
    // Its router is out of reach, its source is no address of ours, its link is down.
    let gone = [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::EINVAL,
        Errno::ENETDOWN,
    ];
    // What exists is there, if only with a shorter life than before.
    refusal.is(Errno::EEXIST)
        || loss == Loss::Expected && gone.into_iter().any(|errno| refusal.is(errno))
}

/// Waits until no address of link `index` is tentative any more.
pub(super) fn settled<K: DerefMut<Target = Sockets>>(
    index: u32,
    mut kernel: impl FnMut() -> K,
) -> Result<(), Error> {
    let mut tentative = None;
    let settled = device::until(Instant::now() + DETECTION, || {
        let listed = address::list(&mut kernel().route)?;
        let mut here = listed.into_iter().filter(|listed| listed.index == index);
        tentative = None;
        let duplicate = here.find(|listed| {
            if listed.progress == Progress::Tentative {
                tentative = Some(listed.address);
            }
            listed.progress == Progress::Duplicate
        });
        match (duplicate, tentative) {
            (Some(listed), _) => Err(Error::Duplicate {
                address: listed.address,
            }),
            (None, None) => Ok(Some(())),
            (None, Some(_)) => Ok(None),
        }
    })?;
    match (settled, tentative) {
        (None, Some(address)) => Err(Error::Tentative { address }),
        _ => Ok(()),
    }
}
