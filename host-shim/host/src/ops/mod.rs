//! Operations on a sandbox. Each takes the lock and keeps the journal where it needs them.
//!
//! A change first finishes what a process that died had begun. An operation that fails leaves the
//! sandbox as it was, or its failure mentions the cleanup that the next change completes.

mod agent_status;
mod examine;
mod reach;

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{IfName, Interface, PciPath, QueuePairs};

use crate::agent::Agent;
use crate::card::{Backend, CardRequest};
use crate::hotplug::{self, Inventory, InventoryNic, LockedSandbox, TapBackends, TapState};
use crate::kata_messages;
use crate::qmp::{self, Session};
use crate::sandbox::{CardRecord, Journal, Lock, Sandbox, StateDir};

pub use crate::hotplug::{Mechanism, collect};
pub use crate::qmp::VSOCK_DEVICE;
pub use agent_status::{AgentStatus, ManagerStatus};
pub use examine::{
    BusSlots, CardStatus, Examination, MachineStatus, Missing, MonitorStatus, Requirement, examine,
};
pub use reach::{check_port, connect};

/// Plugs a card and configures it in the guest; `wait` limits the guest's part. Returns the path of
/// the card. Repeating a request that succeeded changes nothing.
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
    if let Some(path) = plugged_path(&inventory, &locked.journal, &interfaces, request)? {
        return Ok(path);
    }
    let link = request.link.parts();
    let mut names = interfaces.iter().map(|interface| &interface.name);
    if names.any(|name| *name == link.name) {
        let message = format!(
            "name '{}' is taken by another interface of the guest",
            link.name
        );
        return Err(Failure::new(Kind::Exists, message).with_field("name"));
    }
    inventory.check_mac_unused(link.mac)?;
    agent.announce(link.mac)?;
    hotplug::plug(&mut locked, &inventory, request, &agent, wait)
}

/// Unplugs the card of this name; succeeds if there is none.
///
/// # Errors
/// [`Kind::NotYet`] if the guest does not release the card in time, [`Kind::Denied`] if it refuses;
/// failures of QEMU and the host's kernel.
pub fn unplug(sandbox: &Sandbox, name: &IfName) -> Result<(), Failure> {
    let mut locked = LockedSandbox::begin(sandbox)?;
    let card = locked.card(name)?;
    card.map_or(Ok(()), |card| hotplug::clean_up(&mut locked, &card))
}

/// Lists the plugged cards as the guest has them, in the order of its interface indices.
///
/// # Errors
/// Failures of QEMU and the agent.
pub fn list(sandbox: &Sandbox) -> Result<Vec<Interface>, Failure> {
    let mut qmp = Session::connect(&sandbox.qmp)?;
    let agent = reach::connect_over(&mut qmp, &sandbox.agent)?;
    let ((cards, taps), _, mut interfaces) = query_host_and_guest(agent, move || {
        let cards = Inventory::read_nics(&mut qmp, CardRecord::DEVICE_PREFIX)?;
        Ok((cards, TapBackends::read(&mut qmp)?))
    })?;
    for card in &cards {
        warn_of_deleted_tap(card, &taps);
    }
    interfaces.retain(|interface| {
        interface.path.is_some() && cards.iter().any(|card| card.path == interface.path)
    });
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
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

/// Returns the path of the card if the same request was carried out before.
///
/// # Errors
/// A card of this name that differs from the request; the message names the difference.
fn plugged_path(
    inventory: &Inventory,
    journal: &Journal,
    interfaces: &[Interface],
    request: &CardRequest,
) -> Result<Option<PciPath>, Failure> {
    let link = request.link.parts();
    let id = CardRecord::device_id(&link.name);
    let Some(nic) = inventory.nics().into_iter().find(|nic| nic.id == id) else {
        return Ok(None);
    };
    let socket = match &request.backend {
        Backend::Tap => None,
        Backend::VhostUser(socket, listener) => Some((socket.as_path(), *listener)),
    };
    let card = journal.card(&link.name)?;
    let card = card.filter(|card| nic.netdev == Some(card.netdev_id()));
    let mut insides = interfaces.iter();
    let inside = insides.find(|interface| interface.path == nic.path);
    let is_same_set = |inside: &Interface| {
        let addresses: HashSet<_> = inside.addresses.iter().collect();
        addresses == link.addresses.iter().collect()
    };
    let pairs = |queues: Option<QueuePairs>| queues.unwrap_or(QueuePairs::ONE);
    let difference = match (&card, inside) {
        (Some(card), _) if card.device != request.device => "device",
        (Some(card), _) if card.socket() != socket => "vhostUserSocket or mode",
        _ if nic.mac != link.mac => "hwAddr",
        (_, None) => "name in the guest",
        (_, Some(inside)) if inside.name != link.name => "name in the guest",
        (_, Some(inside)) if !inside.up => "state: the guest has set it down",
        (_, Some(inside)) if inside.arp != link.arp => "rawFlags",
        (_, Some(inside)) if inside.mtu != u32::from(link.mtu.get()) => "mtu",
        (_, Some(inside)) if pairs(inside.queues) != pairs(link.queues) => "number of queues",
        (_, Some(inside)) if !is_same_set(inside) => "address",
        _ => return Ok(nic.path),
    };
    let phrase = kata_messages::interface_exists(&link.name);
    let message = format!("{phrase}, with another {difference}");
    Err(Failure::new(Kind::Exists, message).with_field("name"))
}
