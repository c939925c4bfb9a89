//! Difference between the links of a namespace and the cards of its machine.

use patchbay_types::failure::Failure;
use patchbay_types::{IfName, LinkName};

use super::examiner::{Examiner, is_watched};
use super::given_up::GivenUp;
use super::{Action, Change, Policy, Watched};
use crate::hotplug::Inventory;
use crate::mirror::{self, Survey};
use crate::ops;
use crate::qmp::Session;
use crate::sandbox::{CardRecord, Phase, ReplacedCard};

/// Steps to the state of the links.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) failures: Vec<Failure>,
    /// Links that were given up and have not changed.
    pub(super) given_up: GivenUp,
}

/// Step for one link.
#[derive(Debug)]
pub(super) enum Step {
    /// Plugs a card of this name for the link.
    Plug(LinkName, IfName),
    /// Changes a card. The change is looked up again under the lock.
    Card(Change),
}

impl Step {
    pub(super) fn link(&self) -> &LinkName {
        match self {
            Self::Plug(link, _) => link,
            Self::Card(change) => &change.link,
        }
    }

    /// Returns a link without a card, and the name of its card.
    pub(super) fn new_link(&self) -> Option<(&LinkName, &IfName)> {
        match self {
            Self::Plug(link, name) => Some((link, name)),
            Self::Card(_) => None,
        }
    }

    /// Returns the verb of a message.
    pub(super) fn verb(&self) -> &'static str {
        match self.change().action {
            Action::Plug => "plug a card for",
            Action::Unplug => "unplug the card of",
            Action::Replug => "plug anew the card of",
            Action::Update => "update the card of",
        }
    }

    pub(super) fn change(&self) -> Change {
        match self {
            Self::Plug(link, card) => Change {
                link: link.clone(),
                card: card.clone(),
                action: Action::Plug,
            },
            Self::Card(change) => change.clone(),
        }
    }
}

/// Plans the steps, without the lock. The monitor is used only if a link lacks a card.
pub(super) fn plan(watched: &Watched, policy: &Policy, given_up: &GivenUp) -> Plan {
    let mut plan = Plan::default();
    if let Err(failure) = plan.fill(watched, policy, given_up) {
        plan.failures.push(failure);
    }
    plan
}

impl Plan {
    fn fill(
        &mut self,
        watched: &Watched,
        policy: &Policy,
        given_up: &GivenUp,
    ) -> Result<(), Failure> {
        let examiner = Examiner::new(&watched.netns)?;
        let records = ops::recorded(&watched.sandbox)?;
        let is_kept = |record: &&CardRecord| record.phase == Phase::Plugged && is_watched(record);
        let excluded = || policy.exclude.iter().chain(&watched.exclude);
        let is_excluded = |link: &LinkName| excluded().any(|pattern| pattern.matches(link));
        for record in records.iter().filter(is_kept) {
            let Some(mirror) = &record.mirror else {
                continue;
            };
            match examiner.examine(record) {
                // The card of a link that is gone serves nobody.
                Ok(Some(action)) if action == Action::Unplug || !is_excluded(&mirror.link) => {
                    self.steps.push(Step::Card(Change {
                        link: mirror.link.clone(),
                        card: record.name.clone(),
                        action,
                    }));
                }
                Ok(_) => {}
                Err(failure) => self.failures.push(failure),
            }
        }
        // The guest loses routes of these first, in place of which others get theirs.
        let is_unplug = |step: &Step| step.change().action == Action::Unplug;
        self.steps.sort_by_key(|step| !is_unplug(step));
        let is_replaced = |link: &LinkName| self.steps.iter().any(|step| step.link() == link);
        let mut unserved = unserved(&examiner.survey)?;
        // Another command is about to plug their cards.
        let mut in_work = ops::replaced(&watched.sandbox)?;
        in_work.retain(ReplacedCard::is_in_work);
        let is_in_work = |link: &LinkName| {
            let mut mirrors = in_work.iter().filter_map(|card| card.card.mirror.as_ref());
            mirrors.any(|mirror| mirror.link == *link)
        };
        unserved.retain(|link| {
            let name = &link.name;
            !is_excluded(name) && !is_replaced(name) && !is_in_work(name)
        });
        if unserved.is_empty() {
            return Ok(());
        }
        let mut qmp = Session::connect(watched.sandbox.monitor())?;
        let nics = Inventory::read(&mut qmp)?.nics();
        // Kata's cards have no id.
        let others = nics.iter().filter(|nic| nic.name().is_none());
        let others: Vec<_> = others.map(|nic| nic.mac).collect();
        for link in unserved.iter().filter(|link| !others.contains(&link.mac)) {
            match mirror::default_name(&link.name) {
                Ok(name) => match given_up.unchanged(watched, &link.name, &name) {
                    Some(attempt) => self.given_up.keep(attempt),
                    None => self.steps.push(Step::Plug(link.name.clone(), name)),
                },
                Err(failure) => self.failures.push(failure),
            }
        }
        Ok(())
    }
}

fn unserved(survey: &Survey) -> Result<Vec<mirror::SurveyedLink>, Failure> {
    let message = "could not list the links of the sandbox's network namespace";
    let unserved = survey.unserved();
    unserved.map_err(|error| Failure::of_io(message, &error))
}
