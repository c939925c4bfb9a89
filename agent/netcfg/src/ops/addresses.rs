//! Changing the addresses of a link, and of these only patchbay's (docs/decisions/0012).
//!
//! New addresses are added first. The old ones are removed when everything else has succeeded, so that
//! a change which fails costs no traffic. Three kernel behaviours matter. Removing an IPv4 address
//! also removes the later ones of its network (its secondaries, unless `promote_secondaries` is on).
//! Removing an address removes routes (see [`LostRoutes`]), and the last IPv4 address of a link the
//! static IPv4 neighbors too. And an IPv6 address can't have two prefix lengths at once.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use patchbay_types::ipvs::Family;
use patchbay_types::{DadPolicy, InterfaceAddress, Neighbor, PrefixRoute};

use super::address_undo::AddressUndo;
use super::error::Difference;
use super::lost_routes::{LostRoutes, OnFailure};
use super::step::Step;
use super::{ConfigAction, Error, Sockets, neighbors};
use crate::device;
use crate::rtnl::address::{self, DadState, Identity, LinkAddress, Origin};
use crate::rtnl::link::{self, Secondaries, SetLink};

/// Timeout of duplicate address detection. The kernel starts within a second and takes another one;
/// software emulation is slow.
const DAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Handling of addresses that have no tag but look like patchbay's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untagged {
    /// Keep them: another program set them.
    Keep,
    /// Replace them as if patchbay had set them.
    Replace,
}

/// Change of the addresses of a link to those of a request.
#[derive(Debug)]
pub(super) struct AddressChange {
    index: u32,
    duplicates: DadPolicy,
    wanted: Vec<InterfaceAddress>,
    without_prefix_route: Vec<InterfaceAddress>,
    /// All addresses before the change.
    before: Vec<LinkAddress>,
    /// Wanted addresses that the link lacks.
    missing: Vec<InterfaceAddress>,
    /// Wanted addresses that another program set and that become patchbay's.
    untagged: Vec<LinkAddress>,
    /// IPv6 addresses of patchbay that are wanted with another prefix length.
    blocking: Vec<LinkAddress>,
    /// The other addresses of patchbay that are not wanted.
    obsolete: Vec<LinkAddress>,
    /// Routes that the removal of addresses can cost, once they are read.
    routes: Option<LostRoutes>,
    /// Static neighbors that the removal of the last IPv4 address can cost, once they are read.
    neighbors: Vec<Neighbor<()>>,
}

impl AddressChange {
    /// Compares the addresses of link `index` with the wanted ones.
    ///
    /// # Errors
    /// An IPv6 address that another program has set with another prefix length.
    pub(super) fn plan(
        index: u32,
        before: Vec<LinkAddress>,
        wanted: &[InterfaceAddress],
        duplicates: DadPolicy,
        untagged: Untagged,
    ) -> Result<Self, Error> {
        let whole: HashSet<_> = wanted.iter().collect();
        let v6 = wanted.iter().filter(|wanted| wanted.ip().is_ipv6());
        let v6: HashMap<IpAddr, _> = v6.map(|wanted| (wanted.ip(), *wanted)).collect();
        let mut change = Self {
            index,
            duplicates,
            wanted: wanted.to_vec(),
            without_prefix_route: Vec::new(),
            before,
            missing: Vec::new(),
            untagged: Vec::new(),
            blocking: Vec::new(),
            obsolete: Vec::new(),
            routes: None,
            neighbors: Vec::new(),
        };
        let mut present = HashSet::new();
        for found in &change.before {
            let replaceable = match found.origin {
                Origin::Patchbay => true,
                Origin::Untagged => untagged == Untagged::Replace,
                Origin::Other => false,
            };
            if found.peer.is_none() && whole.contains(&found.address) {
                present.insert(found.address);
                if found.can_be_tagged() {
                    change.untagged.push(found.clone());
                }
            } else if let Some(wanted) = v6.get(&found.address.ip()) {
                if !replaceable {
                    let (wanted, found) = (*wanted, found.address);
                    return Err(Error::AddressTaken { wanted, found });
                }
                change.blocking.push(found.clone());
            } else if replaceable {
                change.obsolete.push(found.clone());
            }
        }
        let missing = wanted.iter().filter(|wanted| !present.contains(wanted));
        change.missing = missing.copied().collect();
        Ok(change)
    }

    /// Sets the wanted addresses to whose network the kernel makes no route.
    pub(super) fn without_prefix_routes(self, addresses: &[InterfaceAddress]) -> Self {
        let without_prefix_route = addresses.to_vec();
        Self {
            without_prefix_route,
            ..self
        }
    }

    /// Returns the addresses that the link will have, without the link-local ones that the kernel adds
    /// again.
    pub(super) fn after(&self) -> impl Iterator<Item = InterfaceAddress> {
        let replaced: HashSet<_> = self.replaced().map(LinkAddress::identity).collect();
        let kept = self
            .before
            .iter()
            .filter(move |found| !found.link_local && !replaced.contains(&found.identity()));
        kept.map(|found| found.address)
            .chain(self.wanted.iter().copied())
    }

    /// Adds the wanted addresses.
    pub(super) fn add(&mut self, sockets: &mut Sockets) -> Result<(), Error> {
        if self.blocking.is_empty() {
            return self.add_missing(sockets);
        }
        let tables = Arc::clone(&sockets.tables);
        let _held = tables.share();
        // The undo needs them if the next steps fail.
        self.routes = Some(self.routes(sockets, None, Some(self.index))?);
        remove(sockets, self.index, &self.blocking)?;
        self.add_missing(sockets)?;
        self.restore_routes(sockets, OnFailure::Drop)
    }

    fn add_missing(&self, sockets: &mut Sockets) -> Result<(), Error> {
        let mut step = Step::default();
        for new in &self.missing {
            let route = if self.without_prefix_route.contains(new) {
                PrefixRoute::Absent
            } else {
                PrefixRoute::Kernel
            };
            step.push(ConfigAction::AddAddress(*new), |batch| {
                address::add(batch, self.index, *new, self.duplicates, route);
            });
        }
        for untagged in &self.untagged {
            let action = ConfigAction::AddAddress(untagged.address);
            step.push(action, |batch| address::tag(batch, untagged));
        }
        step.send(sockets, |_| false)
    }

    /// Removes the other addresses of patchbay. Returns all that the link then has.
    ///
    /// # Errors
    /// [`Error::Differs`] if they are not those of the request.
    pub(super) fn finish(&mut self, sockets: &mut Sockets) -> Result<Vec<LinkAddress>, Error> {
        if let Some(first) = self.obsolete.first() {
            let tables = Arc::clone(&sockets.tables);
            let _held = tables.share();
            let family = first.family();
            let of_first = |other: &LinkAddress| other.family() == family;
            let only = self.obsolete.iter().all(of_first).then_some(family);
            if self.routes.is_none() {
                let all_of = self.removes_all_ipv4().then_some(self.index);
                self.routes = Some(self.routes(sockets, only, all_of)?);
            }
            if self.removes_all_ipv4() {
                self.neighbors = neighbors::of_link(sockets, self.index)?;
            }
            remove(sockets, self.index, &self.obsolete)?;
            if self.removes_all_ipv4() {
                self.restore_routes(sockets, OnFailure::Drop)?;
                neighbors::restore(sockets, self.index, &self.neighbors)?;
            }
        }
        let after = address::list(&mut sockets.route, Some(self.index))?;
        self.check(&after)?;
        Ok(after)
    }

    fn routes(
        &self,
        sockets: &mut Sockets,
        only: Option<Family>,
        all_of: Option<u32>,
    ) -> Result<LostRoutes, Error> {
        let sources = self.before.iter().map(|address| address.address.ip());
        LostRoutes::read(sockets, only, all_of, sources)
    }

    fn removes_all_ipv4(&self) -> bool {
        let v4 = |addresses: &[LinkAddress]| {
            let v4 = addresses
                .iter()
                .filter(|found| found.family() == Family::V4);
            v4.count()
        };
        let wanted = self.wanted.iter().any(|wanted| wanted.ip().is_ipv4());
        !wanted && v4(&self.before) > 0 && v4(&self.before) == v4(&self.obsolete)
    }

    fn check(&self, after: &[LinkAddress]) -> Result<(), Error> {
        let mut wanted: HashSet<Identity> = self.wanted.iter().map(|new| (*new, None)).collect();
        let removed: HashSet<_> = self.replaced().map(LinkAddress::identity).collect();
        for found in after {
            if removed.contains(&found.identity()) {
                return Err(Error::Differs(Difference::Restored(found.address)));
            }
            wanted.remove(&found.identity());
        }
        match wanted.into_iter().next() {
            Some((lost, _)) => Err(Error::Differs(Difference::Missing(lost))),
            None => Ok(()),
        }
    }

    /// Undoes the change.
    pub(super) fn undo(&self, sockets: &mut Sockets) -> Result<(), Error> {
        let tables = Arc::clone(&sockets.tables);
        let _held = tables.share();
        let now = address::list(&mut sockets.route, Some(self.index))?;
        // A link that had no IPv4 address loses the last one.
        let present = neighbors::of_link(sockets, self.index)?;
        let (added, tagged) = (&self.missing, &self.untagged);
        let undo = AddressUndo::new(&self.before, added, tagged, self.replaced(), &now);
        promoting(sockets, self.index, |step| undo.push(step))?;
        let routes = self.restore_routes(sockets, OnFailure::Fail);
        let before = neighbors::with_new(&self.neighbors, &present);
        routes.and(neighbors::restore(sockets, self.index, &before))
    }

    fn restore_routes(&self, sockets: &mut Sockets, on_failure: OnFailure) -> Result<(), Error> {
        match &self.routes {
            Some(routes) => routes.restore(sockets, on_failure),
            None => Ok(()),
        }
    }

    /// Returns the addresses that are removed.
    fn replaced(&self) -> impl Iterator<Item = &LinkAddress> {
        self.blocking.iter().chain(&self.obsolete)
    }

    /// Returns the wait for duplicate address detection; `None` if it was not requested.
    pub(super) fn dad(&self) -> Option<DadWait> {
        let wanted = self.wanted.iter().map(|wanted| (*wanted, None));
        (self.duplicates == DadPolicy::Detect).then(|| DadWait {
            index: self.index,
            wanted: wanted.collect(),
        })
    }
}

/// Wait for duplicate address detection.
#[derive(Debug)]
pub(super) struct DadWait {
    index: u32,
    wanted: HashSet<Identity>,
}

impl DadWait {
    /// Waits until the kernel has finished for the wanted addresses.
    pub(super) fn wait(&self, sockets: &mut Sockets) -> Result<(), Error> {
        let mut tentative = None;
        let deadline = Instant::now() + DAD_TIMEOUT;
        let finished = device::wait_until(deadline, &sockets.cancellation, || {
            let mut listed = address::list(&mut sockets.route, Some(self.index))?;
            listed.retain(|listed| self.wanted.contains(&listed.identity()));
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
}

fn remove(sockets: &mut Sockets, index: u32, addresses: &[LinkAddress]) -> Result<(), Error> {
    promoting(sockets, index, |step| step.remove_addresses(addresses))
}

/// Sends a step that removes addresses, and keeps their secondaries. The setting for that is reset in
/// the same batch, so that an agent which is killed leaves it as it was.
fn promoting(sockets: &mut Sockets, index: u32, fill: impl FnOnce(&mut Step)) -> Result<(), Error> {
    let link = link::by_index(&mut sockets.route, index)?;
    let keep = link.is_some_and(|link| link.secondaries == Some(Secondaries::Removed));
    let mut step = Step::default();
    if keep {
        step.set_link(index, SetLink::Secondaries(Secondaries::Promoted));
    }
    fill(&mut step);
    if keep {
        step.set_link(index, SetLink::Secondaries(Secondaries::Removed));
    }
    // Another program has removed or restored the same address.
    step.send(sockets, |error| {
        error.is(Errno::EADDRNOTAVAIL) || error.is(Errno::EEXIST)
    })
}
