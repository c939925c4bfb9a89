//! Changing the settings and the addresses of a link, or rolling back.
//!
//! Only differences are applied. The rollback is the same change from the current settings back to
//! the earlier ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use patchbay_types::{
    AddressDetail, AdminState, InterfaceAddress, LinkChange, LinkName, LinkSpec, Mtu, Neighbor,
};

use super::addresses::{AddressChange, DadWait, Untagged};
use super::down_losses::DownLosses;
use super::link_settings::LinkSettings;
use super::step::set_link;
use super::{Error, Sockets, neighbors, queues, rename::rename};
use crate::device::Sysfs;
use crate::rtnl::address::{self, LinkAddress, Origin};
use crate::rtnl::link::{self, Link, Reach, SetLink};

/// Time for undoing a new name, while another program keeps setting the link up.
const UNDO_TIMEOUT: Duration = Duration::from_secs(5);

/// Static neighbors of a link before a change, and new ones.
#[derive(Debug)]
struct NeighborChange {
    before: Vec<Neighbor<()>>,
    new: Vec<Neighbor<()>>,
}

impl NeighborChange {
    /// Reads the present ones. Returns `None` for a change that neither adds neighbors nor makes the
    /// kernel remove them, as setting a link down, also to undo the opposite, and ARP on or off do.
    fn plan(
        sockets: &mut Sockets,
        index: u32,
        (from, to): (&LinkSettings, &LinkSettings),
        new: &[Neighbor<()>],
    ) -> Result<Option<Self>, Error> {
        if new.is_empty() && from.state == to.state && from.arp == to.arp {
            return Ok(None);
        }
        let before = neighbors::of_link(sockets, index)?;
        let new = new.to_vec();
        Ok(Some(Self { before, new }))
    }
}

/// Change of a link, with all that undoes it.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) index: u32,
    /// Name in messages.
    pub(super) name: LinkName,
    from: LinkSettings,
    to: LinkSettings,
    /// `None` if they stay.
    addresses: Option<AddressChange>,
    /// Link that has the new name, with the one that it gets instead.
    holder: Option<(u32, LinkName)>,
    /// `None` if they stay.
    neighbors: Option<NeighborChange>,
    /// Parts that the link has lost because it was set down.
    losses: Option<DownLosses>,
    /// Addresses in the result.
    reported: AddressDetail,
}

impl Change {
    /// Plans the configuration of link `index`. `untagged` applies to addresses on a card. A yielding
    /// link that has the name gets another one: after a restart of the guest, its kernel's names can
    /// be those of other cards.
    pub(super) fn configure(
        sockets: &mut Sockets,
        index: u32,
        spec: &LinkSpec,
        untagged: Untagged,
        is_yielding: impl Fn(&Link) -> bool,
    ) -> Result<Self, Error> {
        let (new, mtu) = (&spec.parts().name, spec.parts().mtu);
        let name = LinkName::from(new);
        let holder = link::by_name(&mut sockets.route, &name)?;
        let holder = holder.filter(|holder| holder.index != index);
        let taken = || Error::NameTaken(new.clone());
        let holder = match holder {
            Some(holder) if is_yielding(&holder) => {
                let unique = format!("pb{}", holder.index).parse();
                Some((holder.index, unique.map_err(|_| taken())?))
            }
            Some(_) => return Err(taken()),
            None => None,
        };
        let link = link::by_index(&mut sockets.route, index)?;
        let link = link.ok_or_else(|| Error::Gone(name.clone()))?;
        let before = address::list(&mut sockets.route, Some(index))?;
        let wanted = &spec.parts().addresses;
        let addresses = AddressChange::plan(index, before, wanted, spec.duplicates(), untagged)?
            .without_prefix_routes(spec.addresses_without_prefix_route());
        check_mtu(mtu.get().into(), addresses.after())?;
        let from = LinkSettings::from(&link).with_queues(sockets, &link)?;
        let to = LinkSettings::from(spec);
        Ok(Self {
            index,
            name,
            neighbors: NeighborChange::plan(sockets, index, (&from, &to), spec.neighbors())?,
            from,
            to,
            addresses: Some(addresses),
            holder,
            losses: None,
            reported: AddressDetail::Listed,
        })
    }

    /// Plans a change of the interface `link`. `untagged` applies if it has no tagged address.
    pub(super) fn update(
        sockets: &mut Sockets,
        link: &Link,
        request: &LinkChange,
        untagged: Untagged,
    ) -> Result<Self, Error> {
        let from = LinkSettings::from(link);
        let mtu = request.mtu().map_or(link.mtu, |mtu| mtu.get().into());
        if link.reach == Reach::Loopback && mtu != link.mtu {
            return Err(Error::LoopbackMtu(link.mtu));
        }
        let before = if request.addresses().is_some() || mtu < Mtu::IPV6_MIN.get().into() {
            address::list(&mut sockets.route, Some(link.index))?
        } else {
            Vec::new()
        };
        let addresses = if let Some(wanted) = request.addresses() {
            let tagged = before.iter().any(|found| found.origin == Origin::Patchbay);
            let untagged = if tagged { Untagged::Keep } else { untagged };
            let duplicates = request.duplicates();
            let change = AddressChange::plan(link.index, before, wanted, duplicates, untagged)?;
            check_mtu(mtu, change.after())?;
            Some(change)
        } else {
            let kept = before.iter().filter(|found| !found.link_local);
            check_mtu(mtu, kept.map(|found| found.address))?;
            None
        };
        if let Some(new) = request.rename() {
            let holder = link::by_name(&mut sockets.route, &new.into())?;
            if holder.is_some_and(|holder| holder.index != link.index) {
                return Err(Error::NameTaken(new.clone()));
            }
        }
        let to = from.changed(request);
        Ok(Self {
            index: link.index,
            name: request.name().clone(),
            neighbors: NeighborChange::plan(sockets, link.index, (&from, &to), &[])?,
            from,
            to,
            addresses,
            holder: None,
            losses: None,
            reported: AddressDetail::Listed,
        })
    }

    /// Sets the addresses in the result.
    pub(super) fn reporting(self, reported: AddressDetail) -> Self {
        Self { reported, ..self }
    }

    /// The error for a link that has been removed.
    pub(super) fn gone(&self) -> Error {
        Error::Gone(self.name.clone())
    }

    /// Applies the settings and adds addresses, or rolls back. The order protects traffic: settings that
    /// affect packets precede the addresses that attract them, and the link is set up last.
    pub(super) fn begin(&mut self, sockets: &mut Sockets, deadline: Instant) -> Result<(), Error> {
        self.apply(sockets, deadline)
            .map_err(|error| self.roll_back(sockets, error))
    }

    fn apply(&mut self, sockets: &mut Sockets, deadline: Instant) -> Result<(), Error> {
        if let Some((holder, unique)) = &self.holder {
            rename(sockets, *holder, unique, deadline)?;
        }
        let goes_down = self.from.state == AdminState::Up && self.to.state == AdminState::Down;
        // A rename that sets the link down would set it up again, and fail for a route that can't be
        // restored although none is wanted.
        if goes_down && self.from.name != self.to.name {
            self.set_down(sockets)?;
        }
        self.set(sockets, &self.from, &self.to, deadline)?;
        sockets.cancellation.check()?;
        if goes_down && self.losses.is_none() {
            self.set_down(sockets)?;
        }
        if let Some(addresses) = &mut self.addresses {
            addresses.add(sockets)?;
        }
        if self.to.state == AdminState::Up && self.from.state == AdminState::Down {
            set_link(sockets, self.index, SetLink::State(AdminState::Up))?;
        }
        let Some(NeighborChange { before, new }) = &self.neighbors else {
            return Ok(());
        };
        neighbors::set(sockets, self.index, &neighbors::with_new(before, new))
    }

    fn set_down(&mut self, sockets: &mut Sockets) -> Result<(), Error> {
        let tables = Arc::clone(&sockets.tables);
        let _held = tables.share();
        let losses = self.losses.insert(DownLosses::read(sockets, self.index)?);
        set_down(sockets, self.index, losses)
    }

    fn set(
        &self,
        sockets: &mut Sockets,
        from: &LinkSettings,
        to: &LinkSettings,
        deadline: Instant,
    ) -> Result<(), Error> {
        let index = self.index;
        if from.name != to.name {
            rename(sockets, index, &to.name, deadline)?;
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
        if let Some(promisc) = to.promisc.filter(|_| from.promisc != to.promisc) {
            set_link(sockets, index, SetLink::Promisc(promisc))?;
        }
        Ok(())
    }

    /// Removes the addresses that the request replaces, and returns the link as it then is.
    ///
    /// # Errors
    /// [`Error::Differs`] if it is not as requested; [`Error::Cancelled`]. Doesn't roll back.
    pub(super) fn finish(
        &mut self,
        sockets: &mut Sockets,
    ) -> Result<(Link, Vec<LinkAddress>), Error> {
        sockets.cancellation.check()?;
        let changed = self
            .addresses
            .as_mut()
            .map(|addresses| addresses.finish(sockets));
        let addresses = match (changed.transpose()?, self.reported) {
            (_, AddressDetail::Omitted) => Vec::new(),
            (Some(addresses), AddressDetail::Listed) => addresses,
            (None, AddressDetail::Listed) => address::list(&mut sockets.route, Some(self.index))?,
        };
        let link = link::by_index(&mut sockets.route, self.index)?;
        let link = link.ok_or_else(|| self.gone())?;
        let mut found = LinkSettings::from(&link);
        if self.to.queues.is_some() {
            found = found.with_queues(sockets, &link)?;
        }
        self.to.check(&found, &link)?;
        Ok((link, addresses))
    }

    /// Rolls back after `error`, and returns it with the rollback's own error, if any. A link that
    /// has been removed needs no rollback.
    pub(super) fn roll_back(&self, sockets: &mut Sockets, error: Error) -> Error {
        let undone = self.undo(sockets);
        error.after_undo(undone)
    }

    /// Returns the wait for duplicate address detection, if one is requested. The kernel performs none on a
    /// link that is down, but when it is set up.
    pub(super) fn dad(&self) -> Option<DadWait> {
        let addresses = self.addresses.as_ref();
        let addresses = addresses.filter(|_| self.to.state == AdminState::Up);
        addresses.and_then(AddressChange::dad)
    }

    pub(super) fn undo(&self, sockets: &mut Sockets) -> Result<(), Error> {
        if let Some(link) = link::by_index(&mut sockets.route, self.index)? {
            self.undo_on(sockets, &link)?;
        }
        let Some((index, unique)) = &self.holder else {
            return Ok(());
        };
        match link::by_index(&mut sockets.route, *index)? {
            Some(holder) if holder.name == *unique => {
                let deadline = Instant::now() + UNDO_TIMEOUT;
                rename(sockets, *index, &self.name, deadline)
            }
            _ => Ok(()),
        }
    }

    fn undo_on(&self, sockets: &mut Sockets, link: &Link) -> Result<(), Error> {
        let index = self.index;
        let now = LinkSettings::from(link);
        let before = LinkSettings {
            promisc: self.to.promisc.and(self.from.promisc),
            ..self.from.clone()
        };
        self.set(sockets, &now, &before, Instant::now() + UNDO_TIMEOUT)?;
        if before.state == AdminState::Up && now.state == AdminState::Down {
            set_link(sockets, index, SetLink::State(AdminState::Up))?;
        }
        if let Some(addresses) = &self.addresses {
            addresses.undo(sockets)?;
        }
        let tables = Arc::clone(&sockets.tables);
        let _held = tables.share();
        if let Some(losses) = &self.losses {
            losses.restore(sockets)?;
        }
        if now.state == AdminState::Up && before.state == AdminState::Down {
            let losses = DownLosses::read(sockets, index)?;
            set_down(sockets, index, &losses)?;
        }
        match &self.neighbors {
            Some(neighbors) => neighbors::set(sockets, index, &neighbors.before),
            None => Ok(()),
        }
    }
}

/// Sets link `index` down. It keeps the addresses that a link can have then.
fn set_down(sockets: &mut Sockets, index: u32, losses: &DownLosses) -> Result<(), Error> {
    set_link(sockets, index, SetLink::State(AdminState::Down))?;
    losses.restore_addresses(sockets)
}

/// Checks that no IPv6 address would be lost: below an MTU of 1280 the kernel ends IPv6 on a link.
fn check_mtu(mtu: u32, addresses: impl Iterator<Item = InterfaceAddress>) -> Result<(), Error> {
    if mtu >= Mtu::IPV6_MIN.get().into() {
        return Ok(());
    }
    let mut v6 = addresses.filter(|address| address.ip().is_ipv6());
    match v6.next() {
        Some(address) => Err(Error::SmallMtu { address, mtu }),
        None => Ok(()),
    }
}

/// Finds the link that a change names: by its current name, or by that under which its card was plugged.
pub(super) fn find(links: Vec<Link>, sysfs: &Sysfs, request: &LinkChange) -> Result<Link, Error> {
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
