//! Links of sandboxes' network namespaces that are mirrored as they appear, change and vanish.
//!
//! The state is compared as a whole: the links that the kernel lists, and the cards in the journal. A
//! card that was plugged this way is marked there, so that a process which starts after one that was
//! killed continues with its cards. Everything else is left alone: cards of other programs and of other
//! commands, and links whose frames another program takes.

mod card;
mod control;
mod discover;
mod entry;
mod events;
mod examiner;
pub(crate) mod folders;
mod follow;
mod given_up;
mod left_out;
mod observer;
mod pattern;
mod plan;
mod service;
mod stop;
mod timing;

use std::fmt;
use std::time::Duration;

use patchbay_types::failure::Failure;
use patchbay_types::{IfName, LinkName};

use crate::hotplug::collect;
use crate::mirror::{Keeper, MirrorRequest};
use crate::ops::{self, Mirrored};
use crate::sandbox::Sandbox;
use card::Done;
pub use control::Control;
pub use discover::{Discovered, Watched, discover};
use given_up::{GivenUp, is_lasting};
pub use observer::Observer;
pub use pattern::LinkPattern;
use plan::Step;
pub use service::{Select, Service};
pub use stop::Stop;

/// Settings of [`reconcile`].
#[derive(Debug, Clone)]
pub struct Policy {
    /// Links that are left alone.
    pub exclude: Vec<LinkPattern>,
    /// Time for the guest to detect and configure a card.
    pub wait: Duration,
}

/// Change of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Link in the sandbox's network namespace.
    pub link: LinkName,
    /// Name of its card in the guest.
    pub card: IfName,
    /// Kind of the change.
    pub action: Action,
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A card is plugged for a link that has appeared.
    Plug,
    /// The card of a link that is gone is unplugged.
    Unplug,
    /// The card is unplugged and plugged again, because a card can't change so far.
    Replug,
    /// The card gets the addresses, MTU, routes and static neighbors of its link.
    Update,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plug => "plug",
            Self::Unplug => "unplug",
            Self::Replug => "replug",
            Self::Update => "update",
        })
    }
}

/// Outcome of [`reconcile`] and [`preview`].
#[derive(Debug, Default)]
pub struct Report {
    /// Changes that were made, or are to be made.
    pub changes: Vec<Change>,
    /// Failures of single links, and of the sandbox as a whole.
    pub failures: Vec<Failure>,
    /// Links that are left alone until they change.
    given_up: GivenUp,
}

impl Report {
    /// Returns whether a later attempt can succeed although neither links nor cards change until then.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        !self.failures.iter().all(is_lasting)
    }
}

/// Makes the cards of a sandbox those of its links. Goes on after a failure, and stops between two
/// changes on request.
#[must_use]
pub fn reconcile(watched: &Watched, policy: &Policy, stop: &Stop) -> Report {
    reconcile_others(watched, policy, stop, GivenUp::default())
}

/// The same, except for links that were given up and have not changed.
fn reconcile_others(
    watched: &Watched,
    policy: &Policy,
    stop: &Stop,
    mut given_up: GivenUp,
) -> Report {
    let mut report = Report::default();
    // The redirections of a machine that has ended make its links seem served.
    collect(&watched.sandbox.run_dir);
    let Some(run) = stop.begin() else {
        return report;
    };
    let left = Sandbox {
        interrupt: run.interrupt().clone(),
        ..watched.sandbox.clone()
    };
    if let Err(failure) = ops::finish_left(&left) {
        report.failures.push(failure);
    }
    drop(run);
    // A link that was renamed is served by its earlier card until that is unplugged.
    for _ in 0..3 {
        let begun = report.changes.len();
        let before = std::mem::take(&mut given_up);
        carry_out_all(watched, policy, stop, (&before, &mut report));
        given_up = report.given_up.clone();
        // So are routes of a link, as long as the guest has them by another card.
        let mut new = report.changes[begun..].iter();
        if !new.any(|change| change.action != Action::Plug) {
            break;
        }
    }
    report
}

/// Plans and carries out the steps that are due.
fn carry_out_all(
    watched: &Watched,
    policy: &Policy,
    stop: &Stop,
    (given_up, report): (&GivenUp, &mut Report),
) {
    let plan = plan::plan(watched, policy, given_up);
    report.failures.extend(plan.failures);
    report.given_up = plan.given_up;
    for step in plan.steps {
        let Some(run) = stop.begin() else {
            return;
        };
        let sandbox = Sandbox {
            interrupt: run.interrupt().clone(),
            ..watched.sandbox.clone()
        };
        match carry_out(&sandbox, watched, &step, policy.wait) {
            Ok(change) => report.changes.extend(change),
            Err(failure) => {
                if let Some((link, name)) = step.new_link().filter(|_| is_lasting(&failure)) {
                    report.given_up.add(watched, link, name);
                }
                let context = format!("could not {} the link {}", step.verb(), step.link());
                report.failures.push(failure.context(context));
            }
        }
    }
}

/// Returns the changes that [`reconcile`] would make, and makes none.
#[must_use]
pub fn preview(watched: &Watched, policy: &Policy) -> Report {
    let plan = plan::plan(watched, policy, &GivenUp::default());
    Report {
        changes: plan.steps.iter().map(Step::change).collect(),
        failures: plan.failures,
        given_up: plan.given_up,
    }
}

/// Carries out a step. Returns `None` if it is not needed any more.
fn carry_out(
    sandbox: &Sandbox,
    watched: &Watched,
    step: &Step,
    wait: Duration,
) -> Result<Option<Change>, Failure> {
    match step {
        Step::Plug(link, name) => plug(sandbox, link, name, wait),
        Step::Card(change) => {
            // The link of a replug must not stay without its card: a stop comes after the plug.
            let is_replug = change.action == Action::Replug;
            let _completion = is_replug.then(|| sandbox.interrupt.complete());
            let replug = || {
                let done = card::carry_out(sandbox, watched, &change.card)?;
                if let Some(Done::UnpluggedForReplug) = done {
                    plug(sandbox, &change.link, &change.card, wait)?;
                }
                Ok(done)
            };
            let done = replug().map_err(|failure: Failure| {
                let left = ops::leave_replaced(sandbox, &change.card, &failure);
                left.err()
                    .map_or(failure.clone(), |left| failure.with_cause(left.line()))
            })?;
            let action = match done {
                None => return Ok(None),
                Some(Done::Changed(action)) => action,
                Some(Done::UnpluggedForReplug) => Action::Replug,
            };
            Ok(Some(Change {
                action,
                ..change.clone()
            }))
        }
    }
}

fn plug(
    sandbox: &Sandbox,
    link: &LinkName,
    name: &IfName,
    wait: Duration,
) -> Result<Option<Change>, Failure> {
    let request = MirrorRequest {
        queues: ops::replaced_queues(sandbox, name)?,
        ..request(link, name)
    };
    Ok(match ops::mirror(sandbox, &request, wait)? {
        Mirrored::Card(..) => {
            ops::settle_replaced(sandbox, name)?;
            Some(Change {
                link: link.clone(),
                card: name.clone(),
                action: Action::Plug,
            })
        }
        Mirrored::Adopted(_) => None,
    })
}

fn request(link: &LinkName, name: &IfName) -> MirrorRequest {
    MirrorRequest {
        keeper: Keeper::Watch,
        ..MirrorRequest::new(link.clone(), name.clone())
    }
}
