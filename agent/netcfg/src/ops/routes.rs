//! Routes: add, delete and replace, each as one transaction.
//!
//! A change is a list of routes to remove and a list of routes to add. It is rolled back by the same
//! change with the lists exchanged.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use patchbay_types::{
    Destination, LinkName, MAX_ROUTES, Route, RoutePattern, RouteSpec, RouteTable,
};

use super::step::{Direction, send};
use super::{ConfigAction, Error, Sockets};
use crate::rtnl::link;
use crate::rtnl::route::{self, RouteMsg};
use patchbay_netlink::Batch;

/// A route with its netlink message.
#[derive(Debug, Clone)]
struct Entry {
    route: Route,
    message: RouteMsg,
}

impl Entry {
    /// Returns whether `update-routes` removes the route if it isn't wanted: not if the kernel made
    /// it, and not on the loopback.
    fn is_managed(&self) -> bool {
        !self.message.view().made_by_kernel() && !self.is_on_loopback()
    }

    fn is_on_loopback(&self) -> bool {
        self.route.device.as_bytes() == b"lo"
    }
}

/// Snapshot of the routing tables, as far as [`Route`] can express them.
#[derive(Debug)]
struct Tables {
    /// Link indexes by name.
    links: HashMap<LinkName, u32>,
    entries: Vec<Entry>,
    /// Positions in `entries` by table and destination.
    by_dest: HashMap<(RouteTable, IpNet), Vec<usize>>,
}

impl Tables {
    fn read(sockets: &mut Sockets) -> Result<Self, Error> {
        let links = link::list(&mut sockets.route)?;
        let names = links.into_iter().map(|link| (link.index, link.name));
        let names: HashMap<u32, LinkName> = names.collect();
        let dumped = route::list(&mut sockets.route)?.into_iter();
        let entries: Vec<Entry> = dumped
            .filter_map(|message| {
                let route = message.to_route(&names)?;
                Some(Entry { route, message })
            })
            .collect();
        let mut by_dest: HashMap<_, Vec<usize>> = HashMap::new();
        for (position, Entry { route, .. }) in entries.iter().enumerate() {
            let key = (route.table, route.dest);
            by_dest.entry(key).or_default().push(position);
        }
        let links = names.into_iter().map(|(index, name)| (name, index));
        Ok(Self {
            links: links.collect(),
            entries,
            by_dest,
        })
    }

    /// Returns the routes of a table to a network, with their positions.
    fn to(&self, table: RouteTable, dest: IpNet) -> impl Iterator<Item = (usize, &Entry)> + Clone {
        let positions = self.by_dest.get(&(table, dest));
        let positions = positions.map_or(&[][..], Vec::as_slice);
        positions.iter().map(|at| (*at, &self.entries[*at]))
    }

    fn new_entry(&self, spec: &RouteSpec) -> Result<Entry, Error> {
        let route = spec.resolve();
        let index = self.links.get(&route.device);
        let index = index.ok_or_else(|| Error::NoDevice(route.device.clone()))?;
        let message = RouteMsg::new(&route, *index);
        Ok(Entry { route, message })
    }
}

/// Lists the routes, without the IPv6 routes that the kernel keeps on every link and on the loopback
/// (`fe80::/64`, `ff00::/8`, `::1`). Their addresses are left out of interface lists as well.
pub(super) fn list(sockets: &mut Sockets) -> Result<Vec<Route>, Error> {
    let listed = |entry: &Entry| match entry.route.dest.addr() {
        IpAddr::V6(v6) if entry.message.view().made_by_kernel() => {
            !(v6.is_unicast_link_local() || v6.is_loopback() || v6.is_multicast())
        }
        _ => true,
    };
    let entries = Tables::read(sockets)?.entries.into_iter().filter(listed);
    let routes: Vec<Route> = entries.map(|entry| entry.route).collect();
    match routes.len() {
        ..=MAX_ROUTES => Ok(routes),
        count => Err(Error::TooManyRoutes(count)),
    }
}

/// Adds routes. A route that exists already is accepted; a different one with the same destination
/// and metric is an error.
pub(super) fn add(sockets: &mut Sockets, specs: &[RouteSpec]) -> Result<(), Error> {
    let tables = Tables::read(sockets)?;
    let mut additions = Additions::default();
    for (index, spec) in specs.iter().enumerate() {
        let at = at(index);
        let entry = tables.new_entry(spec).map_err(at)?;
        let mut existing = tables.to(entry.route.table, entry.route.dest);
        if existing
            .clone()
            .any(|(_, found)| spec.matches(&found.route))
        {
            continue;
        }
        let identity = entry.route.identity();
        if let Some((_, found)) = existing.find(|(_, found)| found.route.identity() == identity) {
            return Err(at(conflict(&entry.route, &found.route)));
        }
        additions.push(entry).map_err(at)?;
    }
    additions
        .apply(sockets, &[])
        .map_err(|error| located(error, specs))
}

/// Makes `specs` the routes of the main table and of the other tables that they are in. Routes that
/// the kernel made are kept unless a wanted one replaces them. Routes that use the loopback are kept,
/// and so are routes that [`Route`] can't express, because a request couldn't restore them.
pub(super) fn replace(sockets: &mut Sockets, specs: &[RouteSpec]) -> Result<(), Error> {
    let tables = Tables::read(sockets)?;
    let mut replaced_tables = HashSet::from([RouteTable::MAIN]);
    let (mut kept, mut replaced) = (HashSet::new(), HashSet::new());
    let mut additions = Additions::default();
    for (index, spec) in specs.iter().enumerate() {
        let entry = tables.new_entry(spec).map_err(at(index))?;
        replaced_tables.insert(entry.route.table);
        let existing = tables.to(entry.route.table, entry.route.dest);
        let same = existing.clone().find(|(_, found)| {
            if found.is_managed() {
                spec.creates(&found.route)
            } else {
                spec.matches(&found.route)
            }
        });
        if let Some((position, _)) = same {
            kept.insert(position);
            continue;
        }
        let gives_way =
            |(_, found): &(usize, &Entry)| spec.replaces(&found.route) && !found.is_on_loopback();
        replaced.extend(existing.filter(gives_way).map(|(position, _)| position));
        additions.push(entry).map_err(at(index))?;
    }
    let is_removed = |(position, entry): &(usize, &Entry)| {
        let unwanted = entry.is_managed() && replaced_tables.contains(&entry.route.table);
        !kept.contains(position) && (unwanted || replaced.contains(position))
    };
    let removals = tables.entries.iter().enumerate().filter(is_removed);
    let removals: Vec<Entry> = removals.map(|(_, entry)| entry.clone()).collect();
    additions
        .apply(sockets, &removals)
        .map_err(|error| located(error, specs))
}

/// Deletes every route that matches one of the patterns. A pattern without a match is an error.
pub(super) fn delete(sockets: &mut Sockets, patterns: &[RoutePattern]) -> Result<(), Error> {
    let tables = Tables::read(sockets)?;
    let mut matched = HashSet::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let nets = match pattern.dest {
            Destination::Net(net) => vec![net.trunc()],
            Destination::Default => vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
        };
        let matching = nets
            .into_iter()
            .flat_map(|net| tables.to(pattern.table, net));
        let matching = matching.filter(|(_, entry)| pattern.matches(&entry.route));
        let matching: Vec<usize> = matching.map(|(position, _)| position).collect();
        if matching.is_empty() {
            let pattern = Box::new(pattern.clone());
            return Err(at(index)(Error::NoRoute(pattern)));
        }
        matched.extend(matching);
    }
    let removals = matched.into_iter().map(|at| tables.entries[at].clone());
    Additions::default().apply(sockets, &removals.collect::<Vec<_>>())
}

fn at(index: usize) -> impl Fn(Error) -> Error + Copy {
    move |error| Error::At {
        index,
        inner: error.into(),
    }
}

/// Adds the position of the request that the kernel refused.
fn located(error: Error, specs: &[RouteSpec]) -> Error {
    let refused = match &error {
        Error::Refused {
            action: ConfigAction::AddRoute(route),
            ..
        } => specs.iter().position(|spec| spec.resolve() == **route),
        _ => None,
    };
    match refused {
        Some(index) => at(index)(error),
        None => error,
    }
}

fn conflict(requested: &Route, found: &Route) -> Error {
    Error::RouteExists {
        requested: requested.clone().into(),
        found: found.clone().into(),
    }
}

/// Routes to add, without duplicates.
#[derive(Debug, Default)]
struct Additions {
    entries: Vec<Entry>,
    positions: HashMap<(RouteTable, IpNet, u32), usize>,
}

impl Additions {
    fn push(&mut self, entry: Entry) -> Result<(), Error> {
        let identity = entry.route.identity();
        if let Some(position) = self.positions.get(&identity) {
            let earlier = &self.entries[*position].route;
            return if *earlier == entry.route {
                Ok(())
            } else {
                Err(conflict(&entry.route, earlier))
            };
        }
        self.positions.insert(identity, self.entries.len());
        self.entries.push(entry);
        Ok(())
    }

    /// Removes `removals` and adds the entries, or restores the tables.
    fn apply(&self, sockets: &mut Sockets, removals: &[Entry]) -> Result<(), Error> {
        exchange(sockets, removals, &self.entries, Direction::Change).map_err(|error| {
            error.after_undo(exchange(sockets, &self.entries, removals, Direction::Undo))
        })
    }
}

/// Removes and adds what the tables still have and lack. Routes without a gateway are added first,
/// because the kernel needs them to reach the gateways.
fn exchange(
    sockets: &mut Sockets,
    removals: &[Entry],
    additions: &[Entry],
    direction: Direction,
) -> Result<(), Error> {
    let add = match direction {
        Direction::Change => route::add,
        // Several restored routes can have the same destination and metric.
        Direction::Undo => route::append,
    };
    let now = Tables::read(sockets)?.entries;
    let now: HashSet<&Route> = now.iter().map(|entry| &entry.route).collect();
    let present = removals.iter().filter(|old| now.contains(&old.route));
    let present: Vec<_> = present.collect();
    for piece in present.chunks(Direction::PIECE) {
        direction.check(sockets)?;
        let mut batch = Batch::default();
        for old in piece {
            route::remove(&mut batch, &old.message);
        }
        send(sockets, &batch, |position| {
            ConfigAction::RemoveRoute(piece[position].route.clone().into())
        })?;
    }
    let missing = additions.iter().filter(|new| !now.contains(&new.route));
    let (far, near): (Vec<_>, Vec<_>) = missing.partition(|new| new.message.view().has_gateway());
    let pieces = [&near, &far].map(|group| group.chunks(Direction::PIECE));
    for piece in pieces.into_iter().flatten() {
        direction.check(sockets)?;
        let mut batch = Batch::default();
        for new in piece {
            add(&mut batch, &new.message);
        }
        send(sockets, &batch, |position| {
            ConfigAction::AddRoute(piece[position].route.clone().into())
        })?;
    }
    Ok(())
}
