//! Changing the settings of a link, or rolling back.
//!
//! Only differences are applied. The rollback is the same change from the current settings back to
//! the saved ones.

use patchbay_types::{DadPolicy, LinkChange, LinkName, LinkSpec, Mtu, Neighbor};

use super::addresses::{self, OnFailure};
use super::link_settings::LinkSettings;
use super::step::set_link;
use super::{Error, Sockets, neighbors, queues, rename::rename};
use crate::device::Sysfs;
use crate::rtnl::link::{self, Link, SetLink};
use crate::rtnl::route::RouteMsg;

/// Settings of a link before a change, for the rollback.
#[derive(Debug)]
pub(super) struct SavedLink {
    pub(super) index: u32,
    name: LinkName,
    settings: LinkSettings,
    /// Routes that depend on the link or its addresses.
    routes: Vec<RouteMsg>,
    /// Link that had the new name.
    displaced: Option<u32>,
    /// Static neighbors, which the kernel drops when the link is set down.
    neighbors: Vec<Neighbor<()>>,
}

impl SavedLink {
    fn read(sockets: &mut Sockets, index: u32, name: &LinkName) -> Result<Self, Error> {
        let removed = || Error::Gone(name.clone());
        let settings = LinkSettings::read(sockets, index)?.ok_or_else(removed)?;
        let routes = addresses::dependent_routes(sockets, index, &settings.addresses)?;
        Ok(Self {
            index,
            name: name.clone(),
            settings,
            routes,
            displaced: None,
            neighbors: neighbors::of_link(sockets, index)?,
        })
    }

    /// The error for a link that has been removed.
    pub(super) fn gone(&self) -> Error {
        Error::Gone(self.name.clone())
    }

    fn apply(
        &self,
        sockets: &mut Sockets,
        to: &LinkSettings,
        duplicates: DadPolicy,
        new_neighbors: &[Neighbor<()>],
    ) -> Result<(), Error> {
        self.change(sockets, &self.settings, to, duplicates)
            .and_then(|()| {
                let wanted = neighbors::with_new(&self.neighbors, new_neighbors);
                neighbors::set(sockets, self.index, &wanted)
            })
            .map_err(|error| self.roll_back(sockets, error))
    }

    /// Rolls back after `error`, and returns it with the rollback's own error, if any. A link that
    /// has been removed needs no rollback.
    pub(super) fn roll_back(&self, sockets: &mut Sockets, error: Error) -> Error {
        let mut undo = || match LinkSettings::read(sockets, self.index)? {
            Some(current) => {
                self.change(sockets, &current, &self.settings, DadPolicy::Skip)?;
                addresses::restore_routes(sockets, &self.routes, OnFailure::Fail)?;
                neighbors::set(sockets, self.index, &self.neighbors)
            }
            None => Ok(()),
        };
        let undone = undo().and_then(|()| match self.displaced {
            Some(index) => rename_link(sockets, index, &self.name),
            None => Ok(()),
        });
        error.after_undo(undone)
    }

    /// Changes the link from one set of settings to another. The order protects traffic: settings that affect
    /// packets precede the addresses that attract them, and the link is set up last.
    fn change(
        &self,
        sockets: &mut Sockets,
        from: &LinkSettings,
        to: &LinkSettings,
        duplicates: DadPolicy,
    ) -> Result<(), Error> {
        let index = self.index;
        if from.name != to.name {
            rename(sockets, index, from, &to.name, &self.routes)?;
        }
        if let Some(mtu) = to.mtu.filter(|_| from.mtu != to.mtu) {
            set_link(sockets, index, SetLink::Mtu(mtu))?;
        }
        if let Some(pairs) = to.queues.filter(|_| from.queues != to.queues) {
            queues::set(sockets, index, pairs)?;
        }
        if from.arp != to.arp {
            set_link(sockets, index, SetLink::Arp(to.arp))?;
        }
        addresses::set(sockets, index, &to.addresses, duplicates)?;
        addresses::restore_routes(sockets, &self.routes, OnFailure::Drop)?;
        match (from.up, to.up) {
            (false, true) => set_link(sockets, index, SetLink::Up),
            (true, false) => set_link(sockets, index, SetLink::Down),
            _ => Ok(()),
        }
    }
}

/// Renames a link that can have been removed in the meantime.
fn rename_link(sockets: &mut Sockets, index: u32, name: &LinkName) -> Result<(), Error> {
    let Some(settings) = LinkSettings::read(sockets, index)? else {
        return Ok(());
    };
    let routes = addresses::dependent_routes(sockets, index, &settings.addresses)?;
    rename(sockets, index, &settings, name, &routes)
}

/// Configures link `index`, or leaves it unchanged. A yielding link that has the name gets another
/// one: after a restart of the guest, its kernel's names can be those of other cards.
pub(super) fn apply(
    sockets: &mut Sockets,
    index: u32,
    spec: &LinkSpec,
    is_yielding: impl Fn(&Link) -> bool,
) -> Result<SavedLink, Error> {
    let name = &spec.parts().name;
    let links = link::list(&mut sockets.route)?;
    let is_other = |link: &&Link| link.index != index && link.name == *name;
    let taken = || Error::NameTaken(name.clone());
    let mut saved = SavedLink::read(sockets, index, &name.into())?;
    if let Some(holder) = links.iter().find(is_other) {
        if !is_yielding(holder) {
            return Err(taken());
        }
        let unique = format!("pb{}", holder.index).parse();
        rename_link(sockets, holder.index, &unique.map_err(|_| taken())?)?;
        saved.displaced = Some(holder.index);
    }
    let to = LinkSettings::from(spec);
    saved.apply(sockets, &to, spec.duplicates(), spec.neighbors())?;
    Ok(saved)
}

/// Finds the link that a change names: by its current name, or by that under which its card was plugged.
fn find(links: Vec<Link>, sysfs: &Sysfs, request: &LinkChange) -> Result<Link, Error> {
    let name = request.name();
    let is_card = |link: &Link| sysfs.path_of(&link.name, link.index).as_ref() == request.card();
    let named = links.iter().position(|link| link.name == *name);
    let card = match (request.card(), named) {
        (None, _) => named,
        (Some(_), Some(index)) if is_card(&links[index]) => named,
        (Some(_), _) => links.iter().position(is_card),
    };
    if named.is_some() && named != card {
        return Err(Error::AmbiguousName {
            name: name.clone(),
            card: card.map(|index| links[index].name.clone()),
        });
    }
    let found = card.and_then(|index| links.into_iter().nth(index));
    found.ok_or_else(|| Error::NoInterface(name.clone()))
}

/// Changes an interface, or leaves it unchanged.
pub(super) fn update(
    sockets: &mut Sockets,
    sysfs: &Sysfs,
    request: &LinkChange,
) -> Result<SavedLink, Error> {
    let name = request.name();
    let link = find(link::list(&mut sockets.route)?, sysfs, request)?;
    let saved = SavedLink::read(sockets, link.index, name)?;
    let mut to = saved.settings.clone();
    to.mtu = request.mtu().or(to.mtu);
    if let Some(addresses) = request.addresses() {
        to.addresses = addresses.to_vec();
    }
    let mtu = request.mtu().map_or(link.mtu, |mtu| u32::from(mtu.get()));
    let v6 = to.addresses.iter().find(|address| address.ip().is_ipv6());
    if let Some(address) = v6.filter(|_| mtu < u32::from(Mtu::IPV6_MIN.get())) {
        let address = *address;
        return Err(Error::SmallMtu { address, mtu });
    }
    saved.apply(sockets, &to, request.duplicates(), &[])?;
    Ok(saved)
}
