//! Restoring the addresses of a link after a change that failed.

use std::collections::{HashMap, HashSet};

use patchbay_netlink::{Batch, Rtnetlink};
use patchbay_types::InterfaceAddress;
use patchbay_types::ipvs::Family;

use super::ConfigAction;
use super::step::Step;
use crate::rtnl::address::{self, Identity, LinkAddress};

/// Difference between the addresses of a link and those from before a change, without the changes that
/// other programs made meanwhile.
pub(super) struct AddressUndo<'a> {
    before: &'a [LinkAddress],
    /// Present addresses that the change added.
    added: Vec<&'a LinkAddress>,
    /// Present addresses from before the change.
    left: HashMap<Identity, &'a LinkAddress>,
    /// Addresses that the change removed.
    lost: HashSet<Identity>,
    /// Addresses that the change tagged.
    tagged: HashSet<Identity>,
}

impl<'a> AddressUndo<'a> {
    /// Compares the present addresses, `now`, with those from before a change, of which it removed some,
    /// tagged others and added new ones.
    pub(super) fn new(
        before: &'a [LinkAddress],
        added: &[InterfaceAddress],
        tagged: &[LinkAddress],
        removed: impl Iterator<Item = &'a LinkAddress>,
        now: &'a [LinkAddress],
    ) -> Self {
        let added: HashSet<_> = added.iter().map(|new| (*new, None)).collect();
        let (added, left): (Vec<_>, Vec<_>) = now
            .iter()
            .partition(|address| added.contains(&address.identity()));
        let left = left
            .into_iter()
            .map(|address| (address.identity(), address));
        let left: HashMap<_, _> = left.collect();
        let lost = removed.map(LinkAddress::identity);
        Self {
            before,
            added,
            lost: lost
                .filter(|identity| !left.contains_key(identity))
                .collect(),
            tagged: tagged.iter().map(LinkAddress::identity).collect(),
            left,
        }
    }

    /// Appends the requests. IPv6 addresses that were added can have another prefix length than one
    /// to restore, so they are removed first.
    pub(super) fn push(&self, step: &mut Step) {
        step.remove_addresses(self.added(Family::V6));
        self.push_changes(step, self.before(Family::V6));
        self.push_v4(step);
    }

    /// Restores the order of the IPv4 addresses too, on which primary and secondaries depend: a new
    /// address is behind all others. So those that follow a lost one are removed and added again;
    /// that one is there meanwhile, since a link without addresses loses its routes.
    fn push_v4(&self, step: &mut Step) {
        let before: Vec<_> = self.before(Family::V4).collect();
        let is_lost = |address: &&LinkAddress| self.lost.contains(&address.identity());
        let first = before.iter().position(is_lost);
        let (same, later) = before.split_at(first.map_or(before.len(), |first| first + 1));
        self.push_changes(step, same.iter().copied());
        let left = |address: &&LinkAddress| self.left.get(&address.identity()).copied();
        step.remove_addresses(later.iter().filter_map(left));
        step.remove_addresses(self.added(Family::V4));
        for address in later
            .iter()
            .filter(|address| left(address).is_some() || is_lost(address))
        {
            push(step, address, address::restore);
        }
    }

    /// Appends requests that restore lost addresses and the settings of tagged ones.
    fn push_changes(&self, step: &mut Step, before: impl Iterator<Item = &'a LinkAddress>) {
        for address in before {
            let identity = address.identity();
            if self.lost.contains(&identity) {
                push(step, address, address::restore);
            } else if self.tagged.contains(&identity) && self.left.contains_key(&identity) {
                push(step, address, address::replace);
            }
        }
    }

    fn before(&self, family: Family) -> impl Iterator<Item = &'a LinkAddress> {
        let before = self.before.iter();
        before.filter(move |address| address.family() == family)
    }

    fn added(&self, family: Family) -> impl Iterator<Item = &'a LinkAddress> {
        let added = self.added.iter().copied();
        added.filter(move |address| address.family() == family)
    }
}

fn push(step: &mut Step, address: &LinkAddress, request: fn(&mut Batch<Rtnetlink>, &LinkAddress)) {
    let action = ConfigAction::AddAddress(address.address);
    step.push(action, |batch| request(batch, address));
}
