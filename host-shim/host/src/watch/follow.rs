//! Changes of a link that its card follows without being unplugged.
//!
//! Before the first change, the journal gets the new routes and neighbors beside the old ones, and a mark.
//! So a process that continues after one that was killed knows all that the guest can have, and touches
//! no other route or neighbor.

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AddressDetail, AdminState, LinkChange, LinkName, LinkSpec, Neighbor, NeighborPattern, RouteSpec,
};

use super::examiner::{has_addresses, read_link, routes};
use super::left_out;
use crate::agent::GuestAgent;
use crate::hotplug::LockedSandbox;
use crate::mirror::{self, DefaultRoute};
use crate::netns::Netns;
use crate::ops;
use crate::sandbox::{CardRecord, RouteRecord};

/// Gives a card the addresses, the MTU, the neighbors and the routes of its link.
pub(super) fn follow(
    mut locked: LockedSandbox<'_>,
    netns: &Netns,
    record: &CardRecord,
) -> Result<(), Failure> {
    let (Some(mirror), Some(link)) = (&record.mirror, &record.link) else {
        return Ok(());
    };
    let wanted = read_link(netns, mirror, &link.spec)?;
    locked.sandbox.interrupt.begin_change()?;
    let known = with_both(record, &wanted.link, routes(&wanted))?;
    locked.journal.write(&known)?;
    let new = RouteRecord::list(routes(&wanted));
    let lost = mirror.link_routes.iter().filter(|old| !new.contains(old));
    left_out::mark(&locked.journal, record, &lost.collect::<Vec<_>>())?;
    if !has_addresses(&link.spec, &wanted.link) {
        let parts = wanted.link.parts();
        let addresses = Some(parts.addresses.clone());
        let name = (&record.name).into();
        let field = "addresses of the link";
        let change = LinkChange::new(name, addresses, Some(parts.mtu), field)?;
        ops::update_with_tap(&mut locked, &change, parts.mtu)?;
    }
    let sandbox = locked.sandbox;
    let agent = ops::connect_over(locked.qmp()?, sandbox)?;
    let card = Card {
        agent: &*agent,
        device: device(&*agent, record)?,
        known,
        is_repeated: mirror.is_changing,
    };
    card.follow_neighbors(wanted.link.neighbors())?;
    // A link that is down can't have routes.
    card.follow_routes(match link.spec.state() {
        AdminState::Up => routes(&wanted),
        AdminState::Down => &[],
    })?;
    // With the addresses that the card has now.
    let Some(record) = locked.journal.card(&record.name)? else {
        return Ok(());
    };
    locked
        .journal
        .write(&settled(record, &wanted.link, routes(&wanted))?)
}

/// Returns the record with the routes and neighbors of before and after a change.
fn with_both(
    record: &CardRecord,
    link: &LinkSpec,
    routes: &[RouteSpec],
) -> Result<CardRecord, Failure> {
    let mut record = record.clone();
    if let Some(mirror) = &mut record.mirror {
        let known = &mut mirror.link_routes;
        let mut new = RouteRecord::list(routes);
        new.retain(|new| !known.contains(new));
        known.extend(new);
        mirror.is_changing = true;
    }
    if let Some(own) = &mut record.link {
        let mut neighbors = own.spec.neighbors().to_vec();
        // The guest has one entry of each address.
        let new = link.neighbors().iter();
        let new: Vec<_> = new
            .filter(|new| neighbors.iter().all(|old| old.ip != new.ip))
            .cloned()
            .collect();
        neighbors.extend(new);
        own.spec = with_neighbors(&own.spec, neighbors)?;
    }
    Ok(record)
}

/// Returns the record after a change.
fn settled(
    mut record: CardRecord,
    link: &LinkSpec,
    routes: &[RouteSpec],
) -> Result<CardRecord, Failure> {
    if let Some(mirror) = &mut record.mirror {
        mirror.link_routes = RouteRecord::list(routes);
        mirror.is_changing = false;
    }
    if let Some(own) = &mut record.link {
        own.spec = with_neighbors(&own.spec, link.neighbors().to_vec())?;
    }
    Ok(record)
}

fn with_neighbors(spec: &LinkSpec, neighbors: Vec<Neighbor<()>>) -> Result<LinkSpec, Failure> {
    let field = "neighbors of the link";
    Ok(spec.clone().with_neighbors(neighbors, field)?)
}

/// Returns the present name of a card's interface.
fn device(agent: &dyn GuestAgent, record: &CardRecord) -> Result<LinkName, Failure> {
    let interfaces = agent.interfaces(AddressDetail::Omitted)?;
    let is_card = |path: &Option<_>| path.is_some() && *path == record.path;
    let mut interfaces = interfaces.into_iter();
    let found = interfaces.find(|interface| is_card(&interface.path));
    found.map(|interface| interface.name).ok_or_else(|| {
        let message = format!("the card {} has no interface in the guest", record.name);
        Failure::new(Kind::NotFound, message)
    })
}

/// Card in the guest.
struct Card<'a> {
    agent: &'a dyn GuestAgent,
    device: LinkName,
    /// Record with the routes and neighbors that the guest can have.
    known: CardRecord,
    /// An earlier change was killed. The guest can have another hardware address of a neighbor than the record.
    is_repeated: bool,
}

impl Card<'_> {
    fn follow_neighbors(&self, wanted: &[Neighbor<()>]) -> Result<(), Failure> {
        let known = self.known.link.as_ref();
        let known = known.map_or(&[][..], |link| link.spec.neighbors());
        if known.is_empty() && wanted.is_empty() {
            return Ok(());
        }
        let present = self.agent.neighbors()?;
        let lost = known.iter().filter(|old| !wanted.contains(old));
        let lost = lost.map(|old| NeighborPattern {
            ip: old.ip,
            lladdr: (!self.is_repeated).then_some(old.lladdr),
            device: Some(self.device.clone()),
        });
        let is_present =
            |pattern: &NeighborPattern| present.iter().any(|found| pattern.matches(found));
        let lost: Vec<_> = lost.filter(is_present).collect();
        if !lost.is_empty() {
            self.agent.delete_neighbors(&lost)?;
        }
        let missing = wanted.iter().map(|new| Neighbor {
            ip: new.ip,
            lladdr: new.lladdr,
            device: self.device.clone(),
        });
        let missing: Vec<_> = missing.filter(|new| !present.contains(new)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.agent.add_neighbors(&missing)
    }

    fn follow_routes(&self, wanted: &[RouteSpec]) -> Result<(), Failure> {
        let new = RouteRecord::list(wanted);
        let known = self.known.mirror.as_ref();
        let known = known.map_or(&[][..], |mirror| &mirror.link_routes);
        let mut present = self.agent.routes()?;
        let lost = known.iter().filter(|old| !new.contains(old));
        let mut lost: Vec<_> = lost.filter_map(|old| old.pattern(&self.device)).collect();
        lost.retain(|pattern| present.iter().any(|found| pattern.matches(found)));
        if !lost.is_empty() {
            self.agent.delete_routes(&lost)?;
            present = self.agent.routes()?;
        }
        let mut wanted = wanted.to_vec();
        for route in &mut wanted {
            *route.device_mut() = self.device.clone();
        }
        let missing = mirror::compatible(&wanted, &present, DefaultRoute::Keep)?;
        if missing.is_empty() {
            return Ok(());
        }
        self.agent.add_routes(&missing)
    }
}
