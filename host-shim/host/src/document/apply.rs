//! Carries out a plan, or undoes what it has begun.
//!
//! Every step is an operation that is complete or undone by itself, even after `kill -9`, so a process
//! that is killed leaves the first steps of its plan done; applying the document again does the others.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{Change, RestoreMode, RuleLine};
use patchbay_types::{AddressDetail, IfName, Neighbor, NeighborPattern, Route, RouteTable};

use super::guest_steps::exchange;
use super::{Configure, Exchange, IpvsStep, Plan, Step, Strangers, SysctlChange};
use crate::agent::{Agent, RestoreWatch};
use crate::card::PlugRequest;
use crate::ops::{self, CardKey, OwnSettings};
use crate::sandbox::Sandbox;

/// Limits of the steps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time for the guest to detect and configure a card.
    pub wait: Duration,
    /// Maximum number of IPVS services and servers.
    pub max_rules: u32,
}

/// Carries out a plan. `watch` gets the progress of the IPVS rules.
///
/// # Errors
/// The failure of a step, after those before it were undone; its causes name what could not be undone. An
/// interruption between two steps is such a failure.
pub fn apply(
    sandbox: &Sandbox,
    plan: &Plan,
    limits: Limits,
    mut watch: RestoreWatch<'_>,
) -> Result<(), Failure> {
    let mut executor = Executor {
        sandbox,
        limits,
        kept: HashMap::new(),
    };
    for (index, step) in plan.steps.iter().enumerate() {
        let result = match index {
            0 => Ok(()),
            _ => sandbox.interrupt.check(),
        };
        let result = result.and_then(|()| executor.run(step, &mut watch));
        if let Err(failure) = result {
            return Err(match index {
                0 => failure,
                _ => executor.undo(plan, &plan.steps[..index], failure),
            });
        }
    }
    Ok(())
}

struct Executor<'a> {
    sandbox: &'a Sandbox,
    limits: Limits,
    /// Settings of the cards that were unplugged, which documents don't have.
    kept: HashMap<IfName, OwnSettings>,
}

impl Executor<'_> {
    fn run(&mut self, step: &Step, watch: &mut RestoreWatch<'_>) -> Result<(), Failure> {
        let sandbox = self.sandbox;
        match step {
            Step::Unplug(unplug) => self.unplug(&unplug.card),
            Step::Plug(request) => self.plug(request),
            Step::Configure(configure) => self.configure(configure),
            Step::Update(update) => ops::update(sandbox, &update.change),
            Step::Neighbors(step) => self.change(|agent| {
                // A new card can have brought some along.
                let now = agent.neighbors()?;
                let exchange = exchange(&step.list, now.iter(), step.strangers);
                exchange_neighbors(agent, &exchange)
            }),
            Step::Routes(step) => {
                self.change(|agent| agent.replace_routes(&step.list(&agent.routes()?)))
            }
            Step::Ipvs(step) => self.restore(step, watch.take()),
            Step::Sysctls(changes) => self.change(|agent| set_sysctls(agent, changes)),
        }
    }

    fn change(&self, send: impl FnOnce(&Agent) -> Result<(), Failure>) -> Result<(), Failure> {
        ops::change_guest(self.sandbox, |agent| send(agent.patchbay()?))
    }

    /// Plugs a card. One that takes the place of another gets its settings, or is not plugged.
    fn plug(&self, request: &PlugRequest) -> Result<(), Failure> {
        ops::plug_any(self.sandbox, request, self.limits.wait)?;
        let Some(kept) = self.kept.get(request.name()) else {
            return Ok(());
        };
        let restored = kept.for_request(request).restore(self.sandbox);
        restored.map_err(|failure| {
            let _completion = self.sandbox.interrupt.complete();
            match self.remove(request) {
                Ok(()) => failure,
                Err(undo) => failure.with_cause(format!("could not be undone: {}", undo.line())),
            }
        })
    }

    /// Plugs a card again as it was.
    fn plug_again(&self, request: &PlugRequest) -> Result<(), Failure> {
        ops::plug_any(self.sandbox, request, self.limits.wait)?;
        let kept = self.kept.get(request.name());
        kept.map_or(Ok(()), |kept| kept.restore(self.sandbox))
    }

    fn unplug(&mut self, request: &PlugRequest) -> Result<(), Failure> {
        if let Some(settings) = OwnSettings::read(self.sandbox, request.name())? {
            self.kept.insert(request.name().clone(), settings);
        }
        self.remove(request)
    }

    fn remove(&self, request: &PlugRequest) -> Result<(), Failure> {
        let key = CardKey::Name(request.name().into());
        ops::unplug(self.sandbox, &key).map(drop)
    }

    fn configure(&self, configure: &Configure) -> Result<(), Failure> {
        let key = CardKey::Name(configure.card.name().into());
        ops::apply(self.sandbox, &key, self.limits.wait).map(drop)
    }

    fn restore(&self, step: &IpvsStep, watch: RestoreWatch<'_>) -> Result<(), Failure> {
        let mode = match step.strangers {
            Strangers::Remove => RestoreMode::Replace,
            Strangers::Keep => RestoreMode::Merge,
        };
        self.change(|agent| self.send_rules(agent, &step.lines, mode, watch))
    }

    fn send_rules(
        &self,
        agent: &Agent,
        lines: &[RuleLine],
        mode: RestoreMode,
        watch: RestoreWatch<'_>,
    ) -> Result<(), Failure> {
        let clear = [RuleLine {
            number: 1,
            change: Change::Clear,
        }];
        let lines = match lines {
            // Agents need a rule.
            [] => &clear,
            lines => lines,
        };
        let known = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let max_rules = self.limits.max_rules.max(known);
        agent.ipvs_restore(lines, mode, max_rules, watch).map(drop)
    }

    /// Undoes steps in reverse order, then restores routes and neighbors, which need the cards and their
    /// addresses. Returns the failure with the causes why something could not be undone.
    fn undo(&self, plan: &Plan, done: &[Step], mut failure: Failure) -> Failure {
        let _completion = self.sandbox.interrupt.complete();
        let undone = done.iter().rev().map(|step| self.undo_step(step));
        let mut failures: Vec<_> = undone.filter_map(Result::err).collect();
        failures.extend(self.restore_network(plan, done).err());
        if failures.is_empty() {
            // The guest can have failed to undo a step while those before it were done.
            return failure.with_cause("the changes before it were undone");
        }
        for undo in failures {
            failure = failure.with_cause(format!("could not be undone: {}", undo.line()));
        }
        failure
    }

    fn undo_step(&self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Unplug(unplug) => self.plug_again(&unplug.card),
            Step::Plug(request) => self.remove(request),
            Step::Update(update) => ops::update(self.sandbox, &update.undo),
            Step::Ipvs(step) => {
                let mode = RestoreMode::Replace;
                self.change(|agent| self.send_rules(agent, &step.before, mode, None))
            }
            Step::Sysctls(changes) => self.change(|agent| reset_sysctls(agent, changes)),
            Step::Configure(_) | Step::Neighbors(_) | Step::Routes(_) => Ok(()),
        }
    }

    fn restore_network(&self, plan: &Plan, done: &[Step]) -> Result<(), Failure> {
        let concerns = |step: &Step| !matches!(step, Step::Ipvs(_) | Step::Sysctls(_));
        if !done.iter().any(concerns) {
            return Ok(());
        }
        let added_routes = done.iter().filter_map(|step| match step {
            Step::Routes(step) => Some(&step.difference.added),
            _ => None,
        });
        let added_routes: HashSet<&Route> = added_routes.flatten().collect();
        let added_neighbors = done.iter().filter_map(|step| match step {
            Step::Neighbors(step) => Some(&step.list),
            _ => None,
        });
        let added_neighbors: HashSet<&Neighbor> = added_neighbors.flatten().collect();
        self.change(|agent| {
            restore_neighbors(agent, plan, &added_neighbors)?;
            restore_routes(agent, plan, &added_routes)
        })
    }
}

/// Restores the routes. Those that were added to a table without other routes are deleted first, since the
/// list of the former ones doesn't manage it.
fn restore_routes(agent: &Agent, plan: &Plan, added: &HashSet<&Route>) -> Result<(), Failure> {
    let Some(before) = &plan.routes_before else {
        return Ok(());
    };
    let tables: HashSet<RouteTable> = before.iter().map(|spec| spec.fields().table).collect();
    let is_left = |route: &&Route| {
        let is_covered = route.table == RouteTable::MAIN || tables.contains(&route.table);
        !is_covered && added.contains(route)
    };
    let now = agent.routes()?;
    let left: Vec<_> = now.iter().filter(is_left).map(Route::as_pattern).collect();
    if !left.is_empty() {
        agent.delete_routes(&left)?;
    }
    // A card that was configured anew stays so, and can be down: the kernel refuses routes through it.
    let interfaces = agent.interfaces(AddressDetail::Omitted)?;
    let down = interfaces.iter().filter(|found| !found.up);
    let down: HashSet<_> = down.map(|found| &found.name).collect();
    let possible = before.iter();
    let possible = possible.filter(|spec| !down.contains(&spec.fields().device));
    agent.replace_routes(&possible.cloned().collect::<Vec<_>>())
}

fn restore_neighbors(
    agent: &Agent,
    plan: &Plan,
    added: &HashSet<&Neighbor>,
) -> Result<(), Failure> {
    if plan.neighbors_before.is_empty() && added.is_empty() {
        return Ok(());
    }
    let before: HashSet<&Neighbor> = plan.neighbors_before.iter().collect();
    let now: HashSet<Neighbor> = agent.neighbors()?.into_iter().collect();
    let missing = before.iter().filter(|old| !now.contains(**old)).copied();
    let left = added.difference(&before).filter(|new| now.contains(**new));
    let exchange = Exchange {
        removed: left.map(|new| (*new).clone()).collect(),
        added: missing.cloned().collect(),
    };
    exchange_neighbors(agent, &exchange)
}

/// Removes and adds neighbors, or leaves them as they were.
fn exchange_neighbors(agent: &Agent, exchange: &Exchange<Neighbor>) -> Result<(), Failure> {
    let Exchange { removed, added } = exchange;
    if !removed.is_empty() {
        let patterns = removed.iter().map(|old| NeighborPattern {
            ip: old.ip,
            lladdr: Some(old.lladdr),
            device: Some(old.device.clone()),
        });
        agent.delete_neighbors(&patterns.collect::<Vec<_>>())?;
    }
    if added.is_empty() {
        return Ok(());
    }
    agent.add_neighbors(added).map_err(|failure| {
        let undone = match &removed[..] {
            [] => Ok(()),
            removed => agent.add_neighbors(removed),
        };
        match undone {
            Ok(()) => failure,
            Err(undo) => failure.with_cause(undo.line()),
        }
    })
}

/// Changes settings, or leaves them as they were.
fn set_sysctls(agent: &Agent, changes: &[SysctlChange]) -> Result<(), Failure> {
    for (index, change) in changes.iter().enumerate() {
        if let Err(failure) = agent.set_sysctl(&change.new) {
            return Err(match reset_sysctls(agent, &changes[..index]) {
                Ok(()) => failure,
                Err(undo) => failure.with_cause(undo.line()),
            });
        }
    }
    Ok(())
}

fn reset_sysctls(agent: &Agent, changes: &[SysctlChange]) -> Result<(), Failure> {
    let old = changes.iter().rev().filter_map(|change| change.old);
    for setting in old {
        agent.set_sysctl(&setting)?;
    }
    Ok(())
}
