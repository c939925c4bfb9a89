//! Routes of the main table: added, deleted and replaced as wholes.
//!
//! Every change is two lists, what shall be gone and what shall be there. Undoing it is the same
//! change with the lists exchanged.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use patchbay_types::{Destination, MAX_ROUTES, Route, RoutePattern, RouteSpec};

use super::configure::send;
use super::{Error, Sockets, Step};
use crate::rtnl::link;
use crate::rtnl::route::{self, Stored};
use patchbay_netlink::Batch;

/// A route in both forms.
#[derive(Debug, Clone)]
struct Entry {
    route: Route,
    stored: Stored,
}

/// The routes of the main table that our words can say, as they are now.
#[derive(Debug)]
struct Table {
    /// Link numbers by name.
    links: HashMap<String, u32>,
    entries: Vec<Entry>,
    /// Positions in `entries` by destination.
    places: HashMap<IpNet, Vec<usize>>,
}

impl Table {
    fn read(kernel: &mut Sockets) -> Result<Self, Error> {
        let links = link::list(&mut kernel.route)?;
        let names = links.into_iter().map(|link| (link.index, link.name));
        let names: HashMap<u32, String> = names.collect();
        let stored = route::list(&mut kernel.route)?.into_iter();
        let entries: Vec<Entry> = stored
            .filter_map(|stored| {
                let route = stored.spoken(&names)?;
                Some(Entry { route, stored })
            })
            .collect();
        let mut places: HashMap<_, Vec<usize>> = HashMap::new();
        for (position, entry) in entries.iter().enumerate() {
            let to = places.entry(entry.route.way.dest()).or_default();
            to.push(position);
        }
        Ok(Self {
            links: names
                .into_iter()
                .map(|(index, name)| (name, index))
                .collect(),
            entries,
            places,
        })
    }

    /// The routes to a network, with their positions.
    fn to(&self, dest: IpNet) -> impl Iterator<Item = (usize, &Entry)> {
        let positions = self.places.get(&dest).map_or(&[][..], Vec::as_slice);
        positions.iter().map(|at| (*at, &self.entries[*at]))
    }

    /// The routes that stand where this one would.
    fn rivals(&self, route: &Route) -> impl Iterator<Item = (usize, &Entry)> {
        let rival = |(_, entry): &(usize, &Entry)| entry.route.metric == route.metric;
        self.to(route.way.dest()).filter(rival)
    }

    fn new_entry(&self, spec: &RouteSpec) -> Result<Entry, Error> {
        let device = spec.device();
        let index = self.links.get(device.as_str());
        let index = index.ok_or_else(|| Error::NoDevice {
            device: device.clone(),
        })?;
        let route = spec.resolve();
        let stored = Stored::new(&route, *index);
        Ok(Entry { route, stored })
    }
}

/// Lists the table: all that our words can say, but for what the kernel keeps for itself on every
/// link and on the loopback (`fe80::/64`, `::1`), as its addresses are left out too.
pub(super) fn list(kernel: &mut Sockets) -> Result<Vec<Route>, Error> {
    let shown = |entry: &Entry| match entry.route.way.dest().addr() {
        IpAddr::V6(v6) if entry.stored.made_by_kernel() => {
            !(v6.is_unicast_link_local() || v6.is_loopback())
        }
        _ => true,
    };
    let entries = Table::read(kernel)?.entries.into_iter().filter(shown);
    let routes: Vec<Route> = entries.map(|entry| entry.route).collect();
    if routes.len() > MAX_ROUTES {
        return Err(Error::TooManyRoutes {
            count: routes.len(),
            most: MAX_ROUTES,
        });
    }
    Ok(routes)
}

/// Adds routes. One that is there already is well; another one in its place is refused.
pub(super) fn add(kernel: &mut Sockets, specs: &[RouteSpec]) -> Result<(), Error> {
    let table = Table::read(kernel)?;
    let mut plan = Plan::default();
    for (place, spec) in specs.iter().enumerate() {
        let at = at(place);
        let entry = table.new_entry(spec).map_err(at)?;
        let same = |(_, there): (usize, &Entry)| spec.agrees(&there.route);
        if table.rivals(&entry.route).any(same) {
            continue;
        }
        if let Some((_, there)) = table.rivals(&entry.route).next() {
            return Err(at(exists(&entry.route, &there.route)));
        }
        plan.add(entry).map_err(at)?;
    }
    plan.carry_out(kernel, &[])
        .map_err(|error| placed(error, specs))
}

/// Makes these the routes of the table. What the kernel made and what leads through the loopback
/// stays, and so does what our words can't say: it could not be asked for again.
pub(super) fn replace(kernel: &mut Sockets, specs: &[RouteSpec]) -> Result<(), Error> {
    let table = Table::read(kernel)?;
    let ours = |entry: &Entry| !entry.stored.made_by_kernel() && entry.route.device != "lo";
    let mut stays = HashSet::new();
    let mut plan = Plan::default();
    for (place, spec) in specs.iter().enumerate() {
        let entry = table.new_entry(spec).map_err(at(place))?;
        let same = table.rivals(&entry.route).find(|(_, there)| {
            if ours(there) {
                there.route == entry.route
            } else {
                spec.agrees(&there.route)
            }
        });
        if let Some((position, _)) = same {
            stays.insert(position);
        } else {
            plan.add(entry).map_err(at(place))?;
        }
    }
    let gone = table.entries.iter().enumerate();
    let gone = gone.filter(|(position, entry)| ours(entry) && !stays.contains(position));
    let gone: Vec<Entry> = gone.map(|(_, entry)| entry.clone()).collect();
    plan.carry_out(kernel, &gone)
        .map_err(|error| placed(error, specs))
}

/// Deletes every route that agrees with one of the patterns; each pattern must have one.
pub(super) fn delete(kernel: &mut Sockets, patterns: &[RoutePattern]) -> Result<(), Error> {
    let table = Table::read(kernel)?;
    let mut gone = HashSet::new();
    for (place, pattern) in patterns.iter().enumerate() {
        let nets = match pattern.dest {
            Destination::Net(net) => vec![net.trunc()],
            Destination::Default => vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
        };
        let matching = nets.into_iter().flat_map(|net| table.to(net));
        let matching = matching.filter(|(_, entry)| pattern.matches(&entry.route));
        let matching: Vec<usize> = matching.map(|(position, _)| position).collect();
        if matching.is_empty() {
            let pattern = Box::new(pattern.clone());
            return Err(at(place)(Error::NoRoute { pattern }));
        }
        gone.extend(matching);
    }
    let gone: Vec<Entry> = gone
        .into_iter()
        .map(|at| table.entries[at].clone())
        .collect();
    Plan::default().carry_out(kernel, &gone)
}

fn at(place: usize) -> impl Fn(Error) -> Error + Copy {
    move |error| Error::At {
        place,
        inner: error.into(),
    }
}

/// Says which of the routes that were asked for the kernel refused.
fn placed(error: Error, specs: &[RouteSpec]) -> Error {
    let refused = match &error {
        Error::Refused {
            step: Step::AddRoute(route),
            ..
        } => specs.iter().position(|spec| spec.resolve() == **route),
        _ => None,
    };
    match refused {
        Some(place) => at(place)(error),
        None => error,
    }
}

fn exists(asked: &Route, found: &Route) -> Error {
    Error::RouteExists {
        asked: asked.clone().into(),
        found: found.clone().into(),
    }
}

/// The routes that are to be made, each once.
#[derive(Debug, Default)]
struct Plan {
    there: Vec<Entry>,
    identities: HashMap<(IpNet, u32), usize>,
}

impl Plan {
    fn add(&mut self, entry: Entry) -> Result<(), Error> {
        let identity = entry.route.identity();
        if let Some(position) = self.identities.get(&identity) {
            let planned = &self.there[*position].route;
            return if *planned == entry.route {
                Ok(())
            } else {
                Err(exists(&entry.route, planned))
            };
        }
        self.identities.insert(identity, self.there.len());
        self.there.push(entry);
        Ok(())
    }

    fn carry_out(&self, kernel: &mut Sockets, gone: &[Entry]) -> Result<(), Error> {
        let Err(first) = settle(kernel, gone, &self.there) else {
            return Ok(());
        };
        match settle(kernel, &self.there, gone) {
            Ok(()) => Err(first),
            Err(undo) => Err(Error::NotUndone {
                first: first.into(),
                undo: undo.into(),
            }),
        }
    }
}

/// Makes the ones gone and the others there, whatever of that is so already. A router is reached by
/// a route without one, so those come first.
fn settle(kernel: &mut Sockets, gone: &[Entry], there: &[Entry]) -> Result<(), Error> {
    let now = Table::read(kernel)?.entries;
    let now: HashSet<&Route> = now.iter().map(|entry| &entry.route).collect();
    let gone: Vec<_> = gone.iter().filter(|old| now.contains(&old.route)).collect();
    let mut batch = Batch::default();
    for old in &gone {
        route::remove(&mut batch, &old.stored);
    }
    send(kernel, &batch, |position| {
        Step::RemoveRoute(gone[position].route.clone().into())
    })?;
    let missing = there.iter().filter(|new| !now.contains(&new.route));
    let (far, near): (Vec<_>, Vec<_>) = missing.partition(|new| new.stored.has_gateway());
    for group in [near, far] {
        let mut batch = Batch::default();
        for new in &group {
            route::add(&mut batch, &new.stored);
        }
        send(kernel, &batch, |position| {
            Step::AddRoute(group[position].route.clone().into())
        })?;
    }
    Ok(())
}
