//! Operations on a sandbox. Each takes the lock and keeps the journal where it needs them.
//!
//! A change first finishes what a process that died had begun. An operation that fails leaves the
//! sandbox as it was, or its failure mentions the cleanup that the next change completes.

mod agent_status;
mod card_status;
mod cards;
mod examine;
mod reach;
mod repeat;

use std::thread;
use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{Interface, LinkChange, PciPath};
use patchbay_wire::Feature;

use crate::agent::Agent;
use crate::card::CardRequest;
use crate::hotplug::{self, Inventory, InventoryNic, LockedSandbox, TapBackends, TapState};
use crate::qmp::{self, Session};
use crate::sandbox::{CardRecord, Journal, LinkRecord, Lock, Sandbox, StateDir};
use repeat::Repeated;

pub use crate::hotplug::{Mechanism, collect};
pub use crate::qmp::VSOCK_DEVICE;
pub use agent_status::{AgentStatus, ManagerStatus};
pub use card_status::CardStatus;
pub use cards::{Card, CardKey, CardState};
pub use examine::{
    BusSlots, Examination, MachineStatus, Missing, MonitorStatus, Requirement, examine,
};
pub use reach::{check_port, connect};

/// Plugs a card and configures it in the guest; `wait` limits the guest's part. Returns the path of
/// the card. Repeating a request that succeeded changes nothing, but configures a card that has lost
/// its configuration by a restart of the guest.
///
/// # Errors
/// [`Kind::Exists`] if the name belongs to another card or interface, the MAC address to another
/// card, or the device to another process; [`Kind::Unsupported`] without a free slot; failures of
/// QEMU, the host's kernel and the agent.
pub fn plug(sandbox: &Sandbox, request: &CardRequest, wait: Duration) -> Result<PciPath, Failure> {
    let mut locked = LockedSandbox::begin(sandbox)?;
    let agent = reach::connect_over(&mut locked.qmp, &sandbox.agent)?;
    let (inventory, agent, interfaces) =
        query_host_and_guest(agent, || Inventory::read(&mut locked.qmp))?;
    let records = locked.records(&inventory.nics())?;
    let machine = cards::of_machine(&inventory.nics());
    let (cards, guest) = cards::with_guest(machine, &interfaces, agent, &records)?;
    if !request.link.neighbors().is_empty() {
        guest.agent.require(Feature::Neighbors)?;
    }
    let link = request.link.parts();
    if let Some(card) = cards.iter().find(|card| card.name == link.name) {
        let record = records.into_iter().find(|record| record.name == link.name);
        let path = match repeat::compare(card, record.as_ref(), request)? {
            Repeated::Satisfied(path) => {
                repeat::check_neighbors(&guest.agent, &request.link)?;
                path
            }
            Repeated::NotConfigured(path) => {
                guest.configure(&path, &request.link, wait)?;
                write_link(&locked.journal, record, &path, guest.record(&request.link))?;
                path
            }
        };
        return Ok(path);
    }
    let holder = interfaces
        .iter()
        .find(|interface| interface.name == link.name);
    let is_yielding =
        |path: &Option<PciPath>| guest.yielding.iter().any(|own| Some(own) == path.as_ref());
    if holder.is_some_and(|holder| !is_yielding(&holder.path)) {
        let message = format!(
            "name '{}' is taken by another interface of the guest",
            link.name
        );
        return Err(Failure::new(Kind::Exists, message).with_field("name"));
    }
    inventory.check_mac_unused(link.mac)?;
    guest.agent.mark_card(link.mac)?;
    hotplug::plug(&mut locked, &inventory, request, &guest, wait)
}

/// Configures a plugged card anew, as it was requested last. `wait` limits the guest's part.
///
/// # Errors
/// [`Kind::NotFound`] without the card or its configuration, [`Kind::Invalid`] for a key that fits
/// several cards, [`Kind::NotYet`] for a card without an interface; failures of QEMU and the agent.
pub fn apply(sandbox: &Sandbox, key: &CardKey, wait: Duration) -> Result<Card, Failure> {
    let mut locked = LockedSandbox::begin(sandbox)?;
    let agent = reach::connect_over(&mut locked.qmp, &sandbox.agent)?;
    let (nics, agent, interfaces) = query_host_and_guest(agent, || {
        Inventory::read_nics(&mut locked.qmp, CardRecord::DEVICE_PREFIX)
    })?;
    let records = locked.records(&nics)?;
    let (cards, guest) = cards::with_guest(cards::of_machine(&nics), &interfaces, agent, &records)?;
    let card = cards::find(&cards, key)?.ok_or_else(|| key.not_found())?;
    let Card { name, mac, .. } = card;
    if let Some(CardState::Hidden(place)) = &card.state {
        let message = format!("the card {name} can't be configured (in the guest: {place})");
        return Err(Failure::new(Kind::NotYet, message));
    }
    let record = records.into_iter().find(|record| record.name == *name);
    let link = record.as_ref().and_then(|record| record.link.as_ref());
    let Some((link, path)) = link.zip(card.path.as_ref()) else {
        let message = format!("the journal has no configuration of the card {name}");
        let failure = Failure::new(Kind::NotFound, message);
        return Err(failure.with_cause("repeat 'nic add' or add-iface with its document"));
    };
    let spec = link.spec.clone();
    let interface = guest.configure(path, &spec, wait)?;
    write_link(&locked.journal, record, path, guest.record(&spec))?;
    Ok(Card {
        name: name.clone(),
        mac: *mac,
        path: card.path.clone(),
        interface: Some(interface),
        state: None,
    })
}

/// Records the configuration of a card; a card that the journal has lost has no record.
fn write_link(
    journal: &Journal,
    record: Option<CardRecord>,
    path: &PciPath,
    link: LinkRecord,
) -> Result<(), Failure> {
    let Some(mut record) = record else {
        return Ok(());
    };
    record.path = Some(path.clone());
    record.link = Some(link);
    journal.write(&record)
}

/// Result of [`unplug`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplugged {
    /// The card has been removed.
    Removed,
    /// The sandbox has no such card.
    Absent,
}

/// Unplugs a card, wherever it is in the guest.
///
/// # Errors
/// [`Kind::Invalid`] for a key that fits several cards; [`Kind::NotYet`] if the guest does not release
/// the card in time, [`Kind::Denied`] if it refuses; failures of QEMU and the host's kernel, and of an
/// agent that is needed for the names in the guest.
pub fn unplug(sandbox: &Sandbox, key: &CardKey) -> Result<Unplugged, Failure> {
    let mut locked = LockedSandbox::begin(sandbox)?;
    let nics = Inventory::read_nics(&mut locked.qmp, CardRecord::DEVICE_PREFIX)?;
    let records = locked.records(&nics)?;
    let found = cards::find_to_unplug(cards::of_machine(&nics), key, |cards| {
        let agent = reach::connect_over(&mut locked.qmp, &sandbox.agent)?;
        let interfaces = agent.interfaces()?;
        Ok(cards::with_guest(cards, &interfaces, agent, &records)?.0)
    })?;
    let Some(Card { name, .. }) = found else {
        return Ok(Unplugged::Absent);
    };
    if let Some(record) = locked.card(&name)? {
        hotplug::clean_up(&mut locked, &record)?;
    }
    Ok(Unplugged::Removed)
}

/// Lists the plugged cards with their configuration in the guest, in the order of its interface
/// indices, then those without an interface.
///
/// # Errors
/// Failures of QEMU and the agent.
pub fn list(sandbox: &Sandbox) -> Result<Vec<Card>, Failure> {
    let mut qmp = Session::connect(&sandbox.qmp)?;
    let agent = reach::connect_over(&mut qmp, &sandbox.agent)?;
    let ((nics, taps), agent, interfaces) = query_host_and_guest(agent, move || {
        let nics = Inventory::read_nics(&mut qmp, CardRecord::DEVICE_PREFIX)?;
        Ok((nics, TapBackends::read(&mut qmp)?))
    })?;
    for nic in &nics {
        warn_of_deleted_tap(nic, &taps);
    }
    // `doctor` reports a journal that can't be read.
    let records = sandbox
        .state()
        .and_then(|state| Journal::at(state.path()).cards())
        .unwrap_or_default();
    let cards = cards::of_machine(&nics);
    Ok(cards::with_guest(cards, &interfaces, agent, &records)?.0)
}

/// Changes an interface of the guest, a plugged card or not.
///
/// # Errors
/// [`Kind::NotFound`] without an interface of this name, [`Kind::Invalid`] for a name that fits two;
/// failures of the agent.
pub fn update(sandbox: &Sandbox, change: &LinkChange) -> Result<(), Failure> {
    change_guest(sandbox, |agent| {
        let state = match sandbox.state() {
            Ok(state) => state,
            // No card can be plugged there.
            Err(absent) if absent.kind() == Kind::NotFound => {
                return agent.update(change).map(drop);
            }
            Err(failure) => return Err(failure),
        };
        let journal = Journal::at(state.path());
        let records = journal.cards()?;
        let plugged = records.iter().find(|record| *change.name() == record.name);
        let path = plugged.and_then(|record| record.path.clone());
        let interface = agent.update(&change.clone().with_card(path))?;
        let is_at = |record: &CardRecord| record.path.is_some() && record.path == interface.path;
        let Some(mut record) = records.into_iter().find(is_at) else {
            return Ok(());
        };
        let Some(link) = &mut record.link else {
            return Ok(());
        };
        link.spec = change.applied_to(&link.spec);
        journal.write(&record).map_err(|failure| {
            failure.context("the interface is changed, but a restart of the guest will undo it")
        })
    })
}

/// Warns of a card whose TAP was deleted on the host.
fn warn_of_deleted_tap(card: &InventoryNic, taps: &TapBackends) {
    let (name, state) = (card.name(), taps.state_of(card));
    if let (Some(name), TapState::Deleted) = (name, state) {
        tracing::warn!(
            "the TAP device of the card {name} was deleted on the host: unplug the card (nic del), because \
             a reset of the guest would end QEMU"
        );
    }
}

/// Runs a change of the guest's configuration while it holds the lock. A machine without a monitor has
/// no lock: no card can be plugged there.
///
/// # Errors
/// Those of [`connect`]; the failure of `change`.
pub fn change_guest<T>(
    sandbox: &Sandbox,
    change: impl FnOnce(&Agent) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let _lock = match sandbox.state() {
        Ok(state) => Some(lock_for_change(&state)?),
        Err(absent) if absent.kind() == Kind::NotFound => None,
        Err(failure) => return Err(failure),
    };
    change(&reach::connect_alone(sandbox)?)
}

fn lock_for_change(state: &StateDir) -> Result<Lock, Failure> {
    let lock = Lock::take(state)?;
    state.describe(None)?;
    Ok(lock)
}

/// Queries the machine and the guest in parallel.
fn query_host_and_guest<T>(
    agent: Agent,
    machine: impl FnOnce() -> Result<T, qmp::Error>,
) -> Result<(T, Agent, Vec<Interface>), Failure> {
    let (machine, guest) = thread::scope(|scope| {
        let guest = scope.spawn(move || {
            let interfaces = agent.interfaces()?;
            Ok::<_, Failure>((agent, interfaces))
        });
        (machine(), guest.join())
    });
    let machine = machine?;
    let message = "internal error: the agent query thread panicked";
    let (agent, interfaces) = guest.map_err(|_| Failure::new(Kind::Other, message))??;
    Ok((machine, agent, interfaces))
}
