//! Cards that are unplugged to be plugged anew.
//!
//! Between the two, neither QEMU nor the guest has the card, and the journal has it as a replaced one. A
//! process that fails or dies there leaves it to the next change of the machine, which plugs it again.

use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{AdminState, IfName, LinkName, Neighbor, RouteSpec};

use super::cards::CardKey;
use super::own_settings::OwnSettings;
use super::{change_guest, plug_any, unplug};
use crate::agent::GuestAgent;
use crate::hotplug::{self, LockedSandbox};
use crate::managed_route;
use crate::sandbox::{CardRecord, Phase, ReplacedCard, ReplacedCards, Sandbox};

/// Time for the guest to detect and configure a card that is plugged again.
const WAIT: Duration = Duration::from_secs(10);

/// Plugs the cards again that commands which ended early were replacing. Only warns of one that can't be plugged: it
/// must not prevent other changes.
pub(super) fn restore_left(sandbox: &Sandbox) -> Result<(), Failure> {
    for ReplacedCard { card, .. } in left(sandbox)? {
        if let Err(failure) = plug_left(sandbox, &card.name) {
            tracing::warn!(
                "the card {}, which a command that ended early was replacing, could not be plugged again: {}",
                card.name,
                failure.line()
            );
        }
    }
    Ok(())
}

/// Returns whether a process that ended early was replacing a card.
pub(super) fn has_left(sandbox: &Sandbox) -> Result<bool, Failure> {
    Ok(!left(sandbox)?.is_empty())
}

fn left(sandbox: &Sandbox) -> Result<Vec<ReplacedCard>, Failure> {
    let mut cards = replaced(sandbox)?;
    cards.retain(ReplacedCard::is_left);
    Ok(cards)
}

/// Lists the cards that are being replaced.
pub(crate) fn replaced(sandbox: &Sandbox) -> Result<Vec<ReplacedCard>, Failure> {
    match sandbox.state() {
        Ok(state) => ReplacedCards::at(state.path()).cards(),
        // Nor can a change begin there.
        Err(absent) if absent.kind() == Kind::NotFound => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// Plugs a card again that a process which ended early was replacing.
fn plug_left(sandbox: &Sandbox, name: &IfName) -> Result<(), Failure> {
    // Cards whose removal has begun are removed.
    let locked = LockedSandbox::begin(sandbox)?;
    let journal = ReplacedCards::at(sandbox.state()?.path());
    // Another command can be faster.
    let Some(card) = journal.card(name)?.filter(ReplacedCard::is_left) else {
        return Ok(());
    };
    let present = locked.journal.card(name)?;
    let is_same = |present: &CardRecord| present.suffix == card.card.suffix;
    if let Some(present) = present.filter(is_same) {
        return match present.phase {
            // It was never unplugged.
            Phase::Plugged => journal.remove(name),
            // The guest has not released it yet.
            Phase::Adding | Phase::Removing => Ok(()),
        };
    }
    let card = card.claimed();
    journal.write(&card)?;
    drop(locked);
    match plug_again(sandbox, &card, WAIT) {
        Ok(()) => {
            tracing::warn!(
                "a command ended early while it replaced the card {name}, which is plugged again as before"
            );
            Ok(())
        }
        // The link that it replaces.
        Err(failure) if failure.kind() == Kind::NotFound && card.card.mirror.is_some() => {
            journal.remove(name)?;
            Err(failure)
        }
        Err(failure) => {
            journal.write(&card.released())?;
            Err(failure)
        }
    }
}

/// Plugs a card again as it was before its replacement, and unplugs another one that has taken its place.
pub(super) fn plug_again(
    sandbox: &Sandbox,
    card: &ReplacedCard,
    wait: Duration,
) -> Result<(), Failure> {
    let name = &card.card.name;
    let request = card.card.request().ok_or_else(|| lost(name))?;
    let state = sandbox.state()?;
    let present = crate::sandbox::Journal::at(state.path()).card(name)?;
    let is_other = |present: &CardRecord| {
        present.phase == Phase::Plugged && present.request().as_ref() != Some(&request)
    };
    if present.is_some_and(|present| is_other(&present)) {
        unplug(sandbox, &CardKey::Name(name.into()))?;
    }
    plug_any(sandbox, &request, wait)?;
    settle(sandbox, card)
}

/// Records a card as replaced and unplugs it.
///
/// # Errors
/// Those of [`unplug`].
pub(crate) fn unplug_to_replace(
    locked: LockedSandbox<'_>,
    card: &ReplacedCard,
) -> Result<(), Failure> {
    let journal = ReplacedCards::at(locked.sandbox.state()?.path());
    journal.create(card)?;
    hotplug::remove(locked, card.card.clone())
}

/// Returns a card with the routes and static neighbors that the guest has through it.
pub(super) fn capture(agent: &dyn GuestAgent, card: CardRecord) -> Result<ReplacedCard, Failure> {
    let interfaces = agent.interfaces(patchbay_types::AddressDetail::Omitted)?;
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

/// Gives the card that was plugged in the place of a replaced one what that had, if there is such a card.
///
/// # Errors
/// Failures of QEMU, the host's kernel and the agent; a later change tries again.
pub(crate) fn settle_replaced(sandbox: &Sandbox, name: &IfName) -> Result<(), Failure> {
    let journal = ReplacedCards::at(sandbox.state()?.path());
    let Some(card) = journal.card(name)? else {
        return Ok(());
    };
    settle(sandbox, &card).inspect_err(|_| {
        // The first failure is reported.
        let _ = journal.write(&card.released());
    })
}

/// Gives a card that was plugged in the place of a replaced one its settings, routes and static neighbors, and ends
/// the replacement.
pub(super) fn settle(sandbox: &Sandbox, card: &ReplacedCard) -> Result<(), Failure> {
    OwnSettings::of(&card.card).restore(sandbox)?;
    if let Some(device) = card.device() {
        add_missing(sandbox, card, &device)?;
    }
    ReplacedCards::at(sandbox.state()?.path()).remove(&card.card.name)
}

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
            neighbors.retain(|neighbor| !present.contains(neighbor));
        }
        if !neighbors.is_empty() {
            agent.add_neighbors(&neighbors)?;
        }
        let present = agent.routes()?;
        routes.retain(|route| !present.iter().any(|found| route.creates(found)));
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
