//! Difference of routes, by the rules of `update-routes` (decision 0002).

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;
use patchbay_types::{LinkName, Route, RouteSpec, RouteTable};

use super::{Exchange, RoutesStep, Strangers};
use crate::managed_route::{is_managed, is_on_loopback, request};

/// Returns the step from the present routes to the wanted ones; its difference can be empty. Routes
/// through the devices `gone` end before the step.
pub(super) fn step(
    wanted: Vec<RouteSpec>,
    present: &[Route],
    gone: &HashSet<LinkName>,
    strangers: Strangers,
) -> RoutesStep {
    let stays = present.iter().filter(|route| !gone.contains(&route.device));
    let (_, difference) = compare(&wanted, stays.collect(), strangers);
    RoutesStep {
        wanted,
        difference,
        strangers,
    }
}

impl RoutesStep {
    /// Returns the complete list of the managed tables for a guest with these routes: those that a card has
    /// brought with it, or the guest's programs have added, are strangers too.
    pub(super) fn list(&self, present: &[Route]) -> Vec<RouteSpec> {
        compare(&self.wanted, present.iter().collect(), self.strangers).0
    }
}

/// Returns the complete list of the managed tables, and the difference to it.
fn compare(
    wanted: &[RouteSpec],
    present: Vec<&Route>,
    strangers: Strangers,
) -> (Vec<RouteSpec>, Exchange<Route>) {
    let mut by_dest: HashMap<(RouteTable, IpNet), Vec<usize>> = HashMap::new();
    for (position, route) in present.iter().enumerate() {
        let key = (route.table, route.dest);
        by_dest.entry(key).or_default().push(position);
    }
    let mut tables = HashSet::from([RouteTable::MAIN]);
    let (mut kept, mut replaced) = (HashSet::<usize>::new(), HashSet::<usize>::new());
    let mut added = Vec::new();
    for spec in wanted {
        let fields = spec.fields();
        tables.insert(fields.table);
        let same_dest = by_dest.get(&(fields.table, fields.dest));
        let same_dest = same_dest.map_or(&[][..], Vec::as_slice);
        let is_met = |position: &&usize| {
            let found = present[**position];
            if is_managed(found) {
                spec.creates(found)
            } else {
                spec.matches(found)
            }
        };
        if let Some(position) = same_dest.iter().find(is_met) {
            kept.insert(*position);
            continue;
        }
        let gives_way = |position: &&usize| {
            let found = present[**position];
            spec.replaces(found) && !is_on_loopback(found)
        };
        replaced.extend(same_dest.iter().filter(gives_way));
        added.push(spec.resolve());
    }
    let mut list = wanted.to_vec();
    let mut removed = Vec::new();
    for (position, route) in present.into_iter().enumerate() {
        if kept.contains(&position) {
            continue;
        }
        let is_stranger = is_managed(route) && tables.contains(&route.table);
        let is_removed = is_stranger && strangers == Strangers::Remove;
        if is_removed || replaced.contains(&position) {
            removed.push(route.clone());
        } else if is_stranger {
            list.extend(request(route));
        }
    }
    (list, Exchange { removed, added })
}
