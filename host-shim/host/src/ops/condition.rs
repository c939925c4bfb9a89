//! Waits for a sandbox, or for a card of it, to be in a state.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{Carrier, IfName, Interface};
use tracing::subscriber::{NoSubscriber, with_default};

use super::attachments::recorded;
use super::cards::{self, Card};
use super::{connect, list};
use crate::hotplug::Inventory;
use crate::qmp::Session;
use crate::sandbox::{CardRecord, Sandbox};

/// First pause between two checks; each is twice as long as the one before, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// State that a sandbox can reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The machine runs and its agent answers.
    Ready,
    /// The card that was plugged under this name has a state.
    Card(IfName, CardGoal),
}

/// State that a card can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardGoal {
    /// It is plugged and configured, its interface is set up and has a carrier.
    Up,
    /// The same, and it has an address other than the kernel's link-local ones.
    Address,
    /// The machine and the journal have no such card.
    Gone,
}

/// Rule that is not met, as part of a message.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => write!(f, "the sandbox is not ready"),
            Self::Card(name, CardGoal::Up) => write!(f, "the card '{name}' is not up"),
            Self::Card(name, CardGoal::Address) => write!(f, "the card '{name}' has no address"),
            Self::Card(name, CardGoal::Gone) => write!(f, "the card '{name}' is not gone"),
        }
    }
}

/// Result of one check.
enum Check {
    Met,
    /// Part that is missing.
    Unmet(String),
}

/// Waits until the condition is met, checking it at growing intervals. `find` returns the sandbox, which need
/// not exist at first, unless a card of it is to be gone. A check that has begun is completed, so the wait
/// can exceed `limit` by the timeouts of QEMU and the agent.
///
/// # Errors
/// [`Kind::Timeout`], naming the part that is missing; failures that no wait resolves: an id that is invalid or
/// ambiguous, [`Kind::Denied`] and [`Kind::Unsupported`]; [`Kind::NotFound`] for a card that is to be gone of
/// a sandbox that doesn't exist.
pub fn await_condition(
    find: &dyn Fn() -> Result<Sandbox, Failure>,
    condition: &Condition,
    limit: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    let mut is_known = false;
    loop {
        // A warning about the sandbox would be printed by each check.
        let checked = with_default(NoSubscriber::new(), || {
            check(find, condition, &mut is_known)
        });
        let missing = match checked {
            Ok(Check::Met) => return Ok(()),
            Ok(Check::Unmet(missing)) => missing,
            Err(failure) if is_lasting(&failure, condition) => return Err(failure),
            Err(failure) => failure.line(),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let message = format!("{condition} after {} s", limit.as_secs());
            return Err(Failure::new(Kind::Timeout, message).with_cause(missing));
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Returns whether a later check fails in the same way. Files of a sandbox that is starting can be incomplete.
fn is_lasting(failure: &Failure, condition: &Condition) -> bool {
    let is_of_id = failure.field() == Some("id");
    match failure.kind() {
        Kind::Invalid => is_of_id,
        Kind::NotFound => is_of_id && matches!(condition, Condition::Card(_, CardGoal::Gone)),
        Kind::Denied | Kind::Unsupported => true,
        _ => false,
    }
}

fn check(
    find: &dyn Fn() -> Result<Sandbox, Failure>,
    condition: &Condition,
    is_known: &mut bool,
) -> Result<Check, Failure> {
    let sandbox = match find() {
        // Its cards have ended with it.
        Err(absent)
            if *is_known
                && absent.kind() == Kind::NotFound
                && matches!(condition, Condition::Card(_, CardGoal::Gone)) =>
        {
            return Ok(Check::Met);
        }
        found => found?,
    };
    *is_known = true;
    match condition {
        Condition::Ready => connect(&sandbox)?.greeting().map(|_| Check::Met),
        Condition::Card(name, CardGoal::Gone) => check_gone(&sandbox, name),
        Condition::Card(name, goal) => {
            let listed = list(&sandbox)?;
            let card = listed.iter().find(|card| card.name == *name);
            Ok(check_card(card, *goal).map_or(Check::Met, Check::Unmet))
        }
    }
}

fn check_gone(sandbox: &Sandbox, name: &IfName) -> Result<Check, Failure> {
    // The files of a machine can outlive it.
    if sandbox.state().is_ok_and(|state| state.has_ended()) {
        return Ok(Check::Met);
    }
    let mut qmp = Session::connect(sandbox.monitor())?;
    let nics = Inventory::read_nics(&mut qmp, CardRecord::DEVICE_PREFIX)?;
    drop(qmp);
    let mut cards = cards::of_machine(&nics).into_iter();
    if cards.any(|card| card.name == *name) {
        return Ok(Check::Unmet("the machine has it".to_owned()));
    }
    // The record goes last, after the backend and the settings of the TAP.
    if recorded(sandbox)?.iter().any(|record| record.name == *name) {
        return Ok(Check::Unmet("its removal is not complete".to_owned()));
    }
    Ok(Check::Met)
}

/// Returns the part that a card misses.
fn check_card(card: Option<&Card>, goal: CardGoal) -> Option<String> {
    let Some(card) = card else {
        return Some("the machine has no card with this name".to_owned());
    };
    if let Some(state) = &card.state {
        return Some(format!("in the guest: {state}"));
    }
    let missing = match &card.interface {
        None => "it has no interface in the guest",
        Some(Interface { up: false, .. }) => "it is set down in the guest",
        Some(interface) if interface.carrier == Some(Carrier::Off) => "it has no carrier",
        Some(interface) if goal == CardGoal::Address && interface.addresses.is_empty() => {
            "it is up without one"
        }
        Some(_) => return None,
    };
    Some(missing.to_owned())
}

#[cfg(test)]
mod tests {
    use patchbay_types::{InterfaceAddress, ListedAddress, Owner};

    use super::super::cards::CardState;
    use super::super::cards::tests::card as plugged;
    use super::*;

    fn card(change: impl FnOnce(&mut Interface)) -> Card {
        let mut card = plugged("eth1", 1, "eth1");
        let interface = card.interface.as_mut().unwrap();
        interface.addresses.push(ListedAddress {
            address: InterfaceAddress::new("10.0.0.2".parse().unwrap(), 24).unwrap(),
            owner: Owner::Other,
        });
        interface.carrier = Some(Carrier::On);
        change(interface);
        card
    }

    #[test]
    fn check_card_names_the_missing_part() {
        let without_address = card(|interface| interface.addresses.clear());
        let removing = Card {
            state: Some(CardState::Removing),
            ..card(|_| ())
        };
        let missing = [
            (None, "the machine has no card with this name"),
            (Some(removing), "in the guest: being removed"),
            (
                Some(card(|interface| interface.up = false)),
                "it is set down in the guest",
            ),
            (
                Some(card(|interface| interface.carrier = Some(Carrier::Off))),
                "it has no carrier",
            ),
        ];
        for (card, text) in &missing {
            for goal in [CardGoal::Up, CardGoal::Address] {
                assert_eq!(check_card(card.as_ref(), goal).as_deref(), Some(*text));
            }
        }
        assert_eq!(check_card(Some(&without_address), CardGoal::Up), None);
        let missing = check_card(Some(&without_address), CardGoal::Address);
        assert_eq!(missing.as_deref(), Some("it is up without one"));
        assert_eq!(check_card(Some(&card(|_| ())), CardGoal::Address), None);
    }

    #[test]
    fn await_condition_fails_at_once_for_lasting_failures() {
        let gone = Condition::Card("eth1".parse().unwrap(), CardGoal::Gone);
        let failures = [
            (Condition::Ready, Kind::Invalid, Some("id")),
            (Condition::Ready, Kind::Denied, None),
            (Condition::Ready, Kind::Unsupported, None),
            (gone, Kind::NotFound, Some("id")),
        ];
        for (condition, kind, field) in failures {
            let failure = Failure::new(kind, "no");
            let failure = field.map_or(failure.clone(), |field| failure.with_field(field));
            let find = || Err(failure.clone());
            let limit = Duration::from_secs(300);
            assert_eq!(
                await_condition(&find, &condition, limit),
                Err(failure.clone())
            );
        }
    }

    #[test]
    fn await_condition_reports_the_last_failure_after_the_limit() {
        let find = || Err(Failure::new(Kind::NotFound, "no such ID").with_field("id"));
        let failed = await_condition(&find, &Condition::Ready, Duration::ZERO).unwrap_err();
        assert_eq!(failed.kind(), Kind::Timeout);
        let line = "the sandbox is not ready after 0 s: no such ID";
        assert_eq!(failed.line(), line);
    }
}
