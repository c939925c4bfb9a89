//! Static neighbors: add, delete, and those of one card, each as one transaction.
//!
//! As with routes, a change is a list of entries to remove and a list of entries to add, and it is
//! rolled back by the same change with the lists exchanged. An entry that the kernel had learned isn't
//! restored: it learns it again.

use std::collections::{HashMap, HashSet};

use nix::errno::Errno;
use patchbay_types::{
    LinkLayerAddr, LinkName, MAX_NEIGHBORS, Neighbor, NeighborAddress, NeighborPattern,
};

use super::step::{Direction, send_ignoring};
use super::{ConfigAction, Error, Sockets};
use crate::rtnl::link::{self, Link, Reach};
use crate::rtnl::neighbor;
use patchbay_netlink::{Batch, KernelError};

/// Lists the static entries.
pub(super) fn list(sockets: &mut Sockets) -> Result<Vec<Neighbor>, Error> {
    let neighbors = named(sockets)?;
    match neighbors.len() {
        ..=MAX_NEIGHBORS => Ok(neighbors.into_iter().map(|(named, _)| named).collect()),
        count => Err(Error::TooManyNeighbors(count)),
    }
}

/// Adds entries. One that exists already is accepted; one with another link-layer address is an
/// error.
pub(super) fn add(sockets: &mut Sockets, neighbors: &[Neighbor]) -> Result<(), Error> {
    let links = link::list(&mut sockets.route)?.into_iter();
    let links: HashMap<LinkName, Link> = links.map(|link| (link.name.clone(), link)).collect();
    let existing = by_address(neighbor::list(&mut sockets.route)?);
    let mut additions = Vec::new();
    for (at, wanted) in neighbors.iter().enumerate() {
        let at = |inner: Error| Error::At {
            index: at,
            inner: inner.into(),
        };
        let link = links.get(&wanted.device);
        let link = link.ok_or_else(|| at(Error::NoDevice(wanted.device.clone())))?;
        // The kernel would add an IPv4 entry with the address 0.0.0.0.
        if link.reach != Reach::Neighbors {
            return Err(at(Error::NoNeighbors(wanted.device.clone())));
        }
        match existing.get(&(link.index, wanted.ip)) {
            Some(lladdr) if *lladdr == wanted.lladdr => {}
            Some(lladdr) => {
                return Err(at(Error::NeighborExists {
                    requested: wanted.clone().into(),
                    found: *lladdr,
                }));
            }
            None => additions.push(with_device(wanted, link.index)),
        }
    }
    apply(sockets, &[], &additions)
}

/// Deletes every entry that matches one of the patterns. A pattern without a match is an error.
pub(super) fn delete(sockets: &mut Sockets, patterns: &[NeighborPattern]) -> Result<(), Error> {
    let existing = named(sockets)?;
    let mut by_ip: HashMap<NeighborAddress, Vec<&(Neighbor, u32)>> = HashMap::new();
    for entry in &existing {
        by_ip.entry(entry.0.ip).or_default().push(entry);
    }
    let mut matched = HashSet::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let same_ip = by_ip.get(&pattern.ip).map_or(&[][..], Vec::as_slice);
        let matching = same_ip.iter().filter(|(named, _)| pattern.matches(named));
        let matching: Vec<_> = matching
            .map(|(named, link)| with_device(named, *link))
            .collect();
        if matching.is_empty() {
            return Err(Error::At {
                index,
                inner: Error::NoNeighbor(pattern.clone().into()).into(),
            });
        }
        matched.extend(matching);
    }
    apply(sockets, &matched.into_iter().collect::<Vec<_>>(), &[])
}

/// Lists the entries of link `index`.
pub(super) fn of_link(sockets: &mut Sockets, index: u32) -> Result<Vec<Neighbor<()>>, Error> {
    let mut listed = neighbor::list(&mut sockets.route)?;
    listed.retain(|listed| listed.device == index);
    Ok(listed
        .iter()
        .map(|listed| with_device(listed, ()))
        .collect())
}

/// Returns the entries with new ones, which replace those of the same address.
pub(super) fn with_new(old: &[Neighbor<()>], new: &[Neighbor<()>]) -> Vec<Neighbor<()>> {
    let replaced: HashSet<_> = new.iter().map(|new| new.ip).collect();
    let kept = old.iter().filter(|old| !replaced.contains(&old.ip));
    kept.chain(new).cloned().collect()
}

/// Makes `wanted` the entries of link `index`.
pub(super) fn set(sockets: &mut Sockets, index: u32, wanted: &[Neighbor<()>]) -> Result<(), Error> {
    let current: HashSet<_> = of_link(sockets, index)?.into_iter().collect();
    let kept: HashSet<_> = wanted.iter().collect();
    let removals = current.iter().filter(|old| !kept.contains(old));
    let additions = wanted.iter().filter(|new| !current.contains(new));
    let on_link = |entry| with_device(entry, index);
    let removals: Vec<_> = removals.map(on_link).collect();
    exchange(
        sockets,
        &removals,
        &additions.map(on_link).collect::<Vec<_>>(),
        // It is also part of an undo, and few of a card.
        Direction::Undo,
    )
}

/// Adds those of the entries that link `index` has lost.
pub(super) fn restore(
    sockets: &mut Sockets,
    index: u32,
    before: &[Neighbor<()>],
) -> Result<(), Error> {
    let present = of_link(sockets, index)?;
    set(sockets, index, &with_new(before, &present))
}

fn with_device<Old, New>(neighbor: &Neighbor<Old>, device: New) -> Neighbor<New> {
    Neighbor {
        ip: neighbor.ip,
        lladdr: neighbor.lladdr,
        device,
    }
}

/// Lists the static entries with the names and indexes of their links.
fn named(sockets: &mut Sockets) -> Result<Vec<(Neighbor, u32)>, Error> {
    let links = link::list(&mut sockets.route)?.into_iter();
    let names: HashMap<u32, LinkName> = links.map(|link| (link.index, link.name)).collect();
    let listed = neighbor::list(&mut sockets.route)?.into_iter();
    let with_name = |entry: Neighbor<u32>| {
        let name = names.get(&entry.device)?;
        Some((with_device(&entry, name.clone()), entry.device))
    };
    Ok(listed.filter_map(with_name).collect())
}

fn by_address(neighbors: Vec<Neighbor<u32>>) -> HashMap<(u32, NeighborAddress), LinkLayerAddr> {
    let key = |entry: Neighbor<u32>| ((entry.device, entry.ip), entry.lladdr);
    neighbors.into_iter().map(key).collect()
}

/// Removes and adds entries, or restores them.
fn apply(
    sockets: &mut Sockets,
    removals: &[Neighbor<u32>],
    additions: &[Neighbor<u32>],
) -> Result<(), Error> {
    exchange(sockets, removals, additions, Direction::Change)
        .map_err(|error| error.after_undo(exchange(sockets, additions, removals, Direction::Undo)))
}

/// Removes and adds entries, and checks that the kernel has those that were added.
fn exchange(
    sockets: &mut Sockets,
    removals: &[Neighbor<u32>],
    additions: &[Neighbor<u32>],
    direction: Direction,
) -> Result<(), Error> {
    if removals.is_empty() && additions.is_empty() {
        return Ok(());
    }
    // An entry to remove is gone when its link was set down.
    let is_gone = |error: &KernelError| error.is(Errno::ENOENT);
    for piece in removals.chunks(Direction::PIECE) {
        direction.check(sockets)?;
        let mut batch = Batch::default();
        for old in piece {
            neighbor::remove(&mut batch, old);
        }
        let action = |at: usize| ConfigAction::RemoveNeighbor(piece[at].ip);
        send_ignoring(sockets, &batch, is_gone, action)?;
    }
    for piece in additions.chunks(Direction::PIECE) {
        direction.check(sockets)?;
        let mut batch = Batch::default();
        for new in piece {
            neighbor::add(&mut batch, new);
        }
        let action = |at: usize| ConfigAction::AddNeighbor(piece[at].ip);
        send_ignoring(sockets, &batch, is_gone, action)?;
    }
    let present: HashSet<_> = neighbor::list(&mut sockets.route)?.into_iter().collect();
    match additions.iter().find(|new| !present.contains(new)) {
        Some(lost) => Err(Error::NeighborLost(lost.ip)),
        None => Ok(()),
    }
}
