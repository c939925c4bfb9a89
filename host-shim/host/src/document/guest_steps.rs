//! Steps for neighbors, the IPVS table and settings.

use std::collections::{HashMap, HashSet};

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{Change, MaxRules, Reading, RuleLine, Setting, Table};
use patchbay_types::{LinkName, MAX_NEIGHBORS, Neighbor, check_neighbors};

use super::devices::Devices;
use super::present::{Present, rule_file};
use super::{Exchange, IpvsStep, NeighborsStep, Strangers, SysctlChange, Wanted};
use crate::card::PlugRequest;

/// Returns the change of the static neighbors: those of the section, and of the requests for cards.
/// Neighbors of the devices `gone` end before it.
pub(super) fn neighbors_step(
    wanted: &Wanted,
    present: &Present,
    devices: &Devices,
    gone: &HashSet<LinkName>,
    strangers: Strangers,
) -> Result<Option<NeighborsStep>, Failure> {
    let of_cards = of_cards(wanted, devices)?;
    let strangers = match &wanted.neighbors {
        Some(_) => strangers,
        None if of_cards.is_empty() => return Ok(None),
        None => Strangers::Keep,
    };
    let Some(known) = &present.neighbors else {
        let message = "the agent in this guest is too old for static neighbors";
        return Err(Failure::new(Kind::Unsupported, message).with_field("neighbors"));
    };
    let mut list = wanted.neighbors.clone().unwrap_or_default();
    for (index, neighbor) in list.iter_mut().enumerate() {
        let field = format!("neighbors[{index}].device");
        neighbor.device = devices.present_name(&neighbor.device, field)?;
    }
    let in_section: HashSet<_> = list.iter().cloned().collect();
    list.extend(of_cards.into_iter().filter(|own| !in_section.contains(own)));
    check_neighbors(&list, MAX_NEIGHBORS, "neighbors")?;
    let stays = |found: &&Neighbor| !gone.contains(&found.device);
    let difference = exchange(&list, known.iter().filter(stays), strangers);
    Ok(Some(NeighborsStep {
        list,
        strangers,
        difference,
    }))
}

/// Returns the change from known neighbors to wanted ones.
pub(super) fn exchange<'a>(
    wanted: &[Neighbor],
    known: impl Iterator<Item = &'a Neighbor>,
    strangers: Strangers,
) -> Exchange<Neighbor> {
    let known: HashSet<&Neighbor> = known.collect();
    let keys: HashSet<_> = wanted.iter().map(|new| (&new.device, new.ip)).collect();
    let kept: HashSet<_> = wanted.iter().filter(|new| known.contains(new)).collect();
    let is_removed = |old: &&&Neighbor| {
        let is_replaced = keys.contains(&(&old.device, old.ip));
        !kept.contains(**old) && (is_replaced || strangers == Strangers::Remove)
    };
    let removed = known.iter().filter(is_removed).map(|old| (*old).clone());
    let added = wanted.iter().filter(|new| !known.contains(new));
    Exchange {
        removed: removed.collect(),
        added: added.cloned().collect(),
    }
}

/// Returns the neighbors in the requests for cards.
fn of_cards(wanted: &Wanted, devices: &Devices) -> Result<Vec<Neighbor>, Failure> {
    let mut list = Vec::new();
    for request in wanted.interfaces.iter().flatten() {
        let PlugRequest::Card(card) = request else {
            continue;
        };
        if card.link.neighbors().is_empty() {
            continue;
        }
        let name = LinkName::from(request.name());
        let device = devices.present_name(&name, "interfaces".to_owned())?;
        list.extend(card.link.neighbors().iter().map(|own| Neighbor {
            ip: own.ip,
            lladdr: own.lladdr,
            device: device.clone(),
        }));
    }
    Ok(list)
}

/// Returns the change of the IPVS table.
pub(super) fn ipvs_step(
    lines: &[RuleLine],
    before: &Table,
    strangers: Strangers,
    max_rules: MaxRules,
) -> Result<Option<IpvsStep>, Failure> {
    let table = Table::of_file(lines, max_rules)
        .map_err(|error| Failure::of(Kind::Invalid, &error).with_field("ipvs"))?;
    let is_removal = |change: &Change| {
        let is_delete = matches!(change, Change::DeleteService(_) | Change::DeleteServer(..));
        is_delete || *change == Change::Clear
    };
    let changes = before.diff(&table).map(|(change, _)| change);
    let changes: Vec<_> = changes
        .filter(|change| strangers == Strangers::Remove || !is_removal(change))
        .collect();
    if changes.is_empty() {
        return Ok(None);
    }
    Ok(Some(IpvsStep {
        lines: lines.to_vec(),
        changes,
        before: rule_file(before),
        strangers,
    }))
}

/// Returns the changes of settings; those that can't be undone are the last.
pub(super) fn sysctls_step(wanted: &[Setting], present: &[Reading]) -> Vec<SysctlChange> {
    let present: HashMap<_, _> = present
        .iter()
        .map(|reading| (reading.sysctl.number(), *reading))
        .collect();
    let mut changes = Vec::new();
    for new in wanted {
        let reading = new.get();
        let old = present.get(&reading.sysctl.number());
        if old != Some(&reading) {
            let old = old.and_then(|old| Setting::new(*old).ok());
            changes.push(SysctlChange { new: *new, old });
        }
    }
    changes.sort_by_key(|change| change.old.is_none());
    changes
}
