//! Cards that are unplugged to be plugged anew.
//!
//! Between the two, neither QEMU nor the guest has the card, and the journal has it as a replaced one. If the
//! process dies there, the next change of the machine plugs the card again. If that fails, only
//! [`gc`](super::gc) tries again: no other change must wait for it each time.

use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AddressDetail, AdminState, IfName, LinkName, Neighbor, QueuePairs, RouteSpec,
};

use super::own_settings::OwnSettings;
use super::{CardKey, change_guest, plug_any, unplug};
use crate::agent::GuestAgent;
use crate::hotplug::LockedSandbox;
use crate::managed_route;
use crate::netns::Netns;
use crate::sandbox::{CardRecord, Journal, Phase, ReplacedCard, ReplacedCards, Sandbox};

/// Time for the guest to detect and configure a card that is plugged again.
const WAIT: Duration = Duration::from_secs(10);

/// Plugs the cards again that processes which died were replacing. Only warns of one that can't be plugged: it
/// must not prevent other changes.
///
/// # Errors
/// A journal that can't be read, and an interruption.
pub(super) fn restore_left(sandbox: &Sandbox) -> Result<(), Failure> {
    restore(sandbox, ReplacedCard::is_of_dead_process)
}

/// Plugs all cards again that no process replaces any more.
///
/// # Errors
/// As of [`restore_left`]; [`Kind::NotYet`] if a card could not be plugged.
pub(super) fn restore_all(sandbox: &Sandbox) -> Result<(), Failure> {
    restore(sandbox, ReplacedCard::is_left)?;
    match left(sandbox, ReplacedCard::is_left)?.first() {
        Some(ReplacedCard { card, .. }) => {
            let message = format!("the card {} could not be plugged again", card.name);
            let failure = Failure::new(Kind::NotYet, message);
            Err(failure.with_cause("repeat the command, or give it up by 'nic del'"))
        }
        None => Ok(()),
    }
}

fn restore(sandbox: &Sandbox, is_chosen: fn(&ReplacedCard) -> bool) -> Result<(), Failure> {
    if left(sandbox, is_chosen)?.is_empty() {
        return Ok(());
    }
    for card in claim(sandbox, is_chosen)? {
        let name = &card.card.name;
        match plug_again(sandbox, &card, WAIT) {
            Ok(Restored::GivenUp) => {}
            Ok(Restored::AsBefore) => tracing::warn!(
                "a command ended early while it replaced the card {name}, which is as before again"
            ),
            // Its process ends, and the next one tries again.
            Err(failure) if sandbox.interrupt.is_taken() => return Err(failure),
            Err(failure) => {
                tracing::warn!(
                    "a command ended early while it replaced the card {name}, which could not be plugged again \
                     ('patchbay gc' tries once more): {}",
                    failure.line()
                );
                release(sandbox, &card)?;
            }
        }
    }
    Ok(())
}

/// Lists the cards that are being replaced.
pub(crate) fn replaced(sandbox: &Sandbox) -> Result<Vec<ReplacedCard>, Failure> {
    ReplacedCards::of(sandbox)
}

fn left(
    sandbox: &Sandbox,
    is_chosen: fn(&ReplacedCard) -> bool,
) -> Result<Vec<ReplacedCard>, Failure> {
    let mut cards = replaced(sandbox)?;
    cards.retain(is_chosen);
    Ok(cards)
}

/// Makes cards those of this process. Those that the guest has not released yet stay as they are.
fn claim(
    sandbox: &Sandbox,
    is_chosen: fn(&ReplacedCard) -> bool,
) -> Result<Vec<ReplacedCard>, Failure> {
    // Cards whose removal has begun are removed.
    let locked = LockedSandbox::begin(sandbox)?;
    let journal = ReplacedCards::at(sandbox.state()?.path());
    journal.remove_unfinished()?;
    let mut claimed = Vec::new();
    for card in left(sandbox, is_chosen)? {
        let present = locked.journal.card(&card.card.name)?;
        let is_unplugged = present.is_none_or(|present| {
            present.suffix != card.card.suffix || present.phase == Phase::Plugged
        });
        if is_unplugged {
            let card = card.claimed();
            journal.write(&card)?;
            claimed.push(card);
        }
    }
    Ok(claimed)
}

/// Leaves a card to [`restore_all`].
pub(super) fn release(sandbox: &Sandbox, card: &ReplacedCard) -> Result<(), Failure> {
    let journal = ReplacedCards::at(sandbox.state()?.path());
    journal.write(&card.clone().released())
}

/// Gives up the replaced card of a name, unless a process works on it. Returns whether there was one.
pub(super) fn discard(sandbox: &Sandbox, name: &LinkName) -> Result<bool, Failure> {
    let mut left = left(sandbox, ReplacedCard::is_left)?.into_iter();
    let is_named =
        |card: &ReplacedCard| *name == card.card.name || card.device().as_ref() == Some(name);
    let Some(card) = left.find(is_named) else {
        return Ok(false);
    };
    ReplacedCards::at(sandbox.state()?.path()).remove(&card.card.name)?;
    Ok(true)
}

/// Outcome of [`plug_again`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restored {
    /// The card is as before its replacement.
    AsBefore,
    /// It is given up, with a warning.
    GivenUp,
}

/// Plugs a card again as it was before its replacement, and unplugs the one that was to take its place. A card of
/// that name that another command has plugged stays, and the replaced one is given up.
pub(super) fn plug_again(
    sandbox: &Sandbox,
    card: &ReplacedCard,
    wait: Duration,
) -> Result<Restored, Failure> {
    let name = &card.card.name;
    let as_before = |()| Restored::AsBefore;
    let given_up = |()| Restored::GivenUp;
    let request = card.card.request().ok_or_else(|| lost(name))?;
    let state = sandbox.state()?;
    let present = Journal::at(state.path()).card(name)?;
    match present.filter(|present| present.phase == Phase::Plugged) {
        Some(present) if card.is_same_device(&present) => {
            return settle(sandbox, card).map(as_before);
        }
        Some(present) if card.is_successor(&present) => {
            unplug(sandbox, &CardKey::Name(name.into()))?;
        }
        Some(_) => {
            tracing::warn!("the replaced card {name} is given up: another card has its name");
            return ReplacedCards::at(state.path()).remove(name).map(given_up);
        }
        None => {}
    }
    let plugged =
        in_netns_of(sandbox, &card.card).and_then(|sandbox| plug_any(&sandbox, &request, wait));
    match plugged {
        Ok(_) => settle(sandbox, card).map(as_before),
        Err(failure) if is_without_link(&failure) => {
            tracing::warn!("the replaced card {name} is given up: its link is gone");
            ReplacedCards::at(state.path()).remove(name).map(given_up)
        }
        Err(failure) => Err(failure),
    }
}

/// Returns whether the link that a card replaces is gone.
fn is_without_link(failure: &Failure) -> bool {
    failure.kind() == Kind::NotFound && failure.field() == Some("link")
}

/// Returns the sandbox with the network namespace of a card, which an option can have named when it was plugged.
///
/// # Errors
/// [`Kind::NotFound`] if the namespace is another one by now.
pub(super) fn in_netns_of(sandbox: &Sandbox, card: &CardRecord) -> Result<Sandbox, Failure> {
    let netns = card.netns.clone().or_else(|| sandbox.netns.clone());
    if let Some(wanted) = card.netns_id {
        let found = Netns::open_or_current(netns.as_deref())?.id();
        if found != wanted {
            let message = format!("the network namespace of the card {} is gone", card.name);
            return Err(Failure::new(Kind::NotFound, message).with_field("netns"));
        }
    }
    Ok(Sandbox {
        netns,
        ..sandbox.clone()
    })
}

/// Records a card as replaced, before it is unplugged.
///
/// # Errors
/// A journal that can't be written; it does not have the card then.
pub(crate) fn record_replaced(
    locked: &LockedSandbox<'_>,
    card: &ReplacedCard,
) -> Result<(), Failure> {
    ReplacedCards::at(locked.sandbox.state()?.path()).create(card)
}

/// Returns a card with the routes and static neighbors that the guest has through it.
pub(super) fn capture(agent: &dyn GuestAgent, card: CardRecord) -> Result<ReplacedCard, Failure> {
    let interfaces = agent.interfaces(AddressDetail::Omitted)?;
    let mut interfaces = interfaces.into_iter();
    let interface = interfaces.find(|found| found.path.is_some() && found.path == card.path);
    let Some(device) = interface.map(|interface| interface.name) else {
        return Ok(ReplacedCard::new(card, &[], &[]));
    };
    let routes = agent.routes()?.into_iter();
    let routes = routes.filter(|route| route.device == device && managed_route::is_managed(route));
    let routes: Vec<RouteSpec> = routes
        .filter_map(|route| managed_route::request(&route))
        .collect();
    let mut neighbors = match agent.neighbors() {
        // Kata's agent can't list them.
        Err(failure) if failure.kind() == Kind::Unsupported => Vec::new(),
        neighbors => neighbors?,
    };
    neighbors.retain(|neighbor| neighbor.device == device);
    Ok(ReplacedCard::new(card, &routes, &neighbors))
}

/// Returns the queues that the replaced card of a link had.
pub(crate) fn replaced_queues(
    sandbox: &Sandbox,
    name: &IfName,
) -> Result<Option<QueuePairs>, Failure> {
    let mut cards = replaced(sandbox)?.into_iter();
    let card = cards.find(|card| card.card.name == *name);
    Ok(card.and_then(|card| card.spec()?.parts().queues))
}

/// Gives the card that was plugged for a link what the replaced one of that link had, if there is one.
///
/// # Errors
/// Failures of QEMU, the host's kernel and the agent.
pub(crate) fn settle_replaced(sandbox: &Sandbox, name: &IfName) -> Result<(), Failure> {
    let state = sandbox.state()?;
    let journal = ReplacedCards::at(state.path());
    let Some(card) = journal.card(name)? else {
        return Ok(());
    };
    let present = Journal::at(state.path()).card(name)?;
    if !present.is_some_and(|present| card.has_link_of(&present)) {
        // The link of the same name is another one.
        return journal.remove(name);
    }
    settle(sandbox, &card).inspect_err(|_| {
        // The first failure is reported.
        let _ = journal.write(&card.released());
    })
}

/// Ends the replacement of a card that could not be plugged: one whose link is gone is given up, another one keeps
/// its settings for the next attempt.
pub(crate) fn leave_replaced(
    sandbox: &Sandbox,
    name: &IfName,
    failure: &Failure,
) -> Result<(), Failure> {
    let journal = ReplacedCards::at(sandbox.state()?.path());
    match journal.card(name)? {
        Some(_) if is_without_link(failure) => journal.remove(name),
        Some(card) => journal.write(&card.released()),
        None => Ok(()),
    }
}

/// Gives a card that was plugged in the place of a replaced one its settings, routes and static neighbors, and ends
/// the replacement.
pub(super) fn settle(sandbox: &Sandbox, card: &ReplacedCard) -> Result<(), Failure> {
    // Each is tried.
    let restored = OwnSettings::of(&card.card).restore(sandbox);
    if let Some(device) = card.device() {
        add_missing(sandbox, card, &device)?;
    }
    restored?;
    ReplacedCards::at(sandbox.state()?.path()).remove(&card.card.name)
}

/// Adds routes and neighbors, except those in whose place a program of the guest has made others.
fn add_missing(sandbox: &Sandbox, card: &ReplacedCard, device: &LinkName) -> Result<(), Failure> {
    let (mut routes, mut neighbors) = (card.routes(device), card.neighbors(device));
    // A link that is down can't have routes.
    if card
        .spec()
        .is_some_and(|spec| spec.state() == AdminState::Down)
    {
        routes.clear();
    }
    if routes.is_empty() && neighbors.is_empty() {
        return Ok(());
    }
    change_guest(sandbox, |agent| {
        if !neighbors.is_empty() {
            let present: Vec<Neighbor> = agent.neighbors()?;
            let is_known = |new: &Neighbor| {
                let mut present = present.iter();
                present.any(|found| (found.ip, &found.device) == (new.ip, &new.device))
            };
            neighbors.retain(|neighbor| !is_known(neighbor));
        }
        if !neighbors.is_empty() {
            agent.add_neighbors(&neighbors)?;
        }
        let present = agent.routes()?;
        routes.retain(|route| {
            let mut present = present.iter();
            !present.any(|found| route.creates(found) || route.replaces(found))
        });
        if routes.is_empty() {
            return Ok(());
        }
        agent.add_routes(&routes)
    })
}

/// Returns the failure of a card that the journal has lost.
pub(super) fn lost(name: &IfName) -> Failure {
    let message = format!("the journal has no configuration of the card {name}");
    let failure = Failure::new(Kind::NotFound, message);
    failure.with_cause("repeat 'nic add' or add-iface with its document")
}
