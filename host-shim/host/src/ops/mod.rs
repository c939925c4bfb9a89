//! Operations on a sandbox. Each takes the lock and keeps the journal where it needs them.
//!
//! A change first finishes what a process that died had begun. An operation that fails leaves the
//! sandbox as it was, or its failure mentions the cleanup that the next change completes.

mod agent_status;
mod attachments;
mod card_status;
pub(crate) mod cards;
mod condition;
mod connection;
mod device_names;
mod difference;
mod examine;
mod gc;
mod generate;
mod host_settings;
mod host_side;
mod link_change;
mod mirror;
mod mtu;
mod nat_status;
mod overview;
mod own_settings;
mod repeat;
mod replace;
mod replaced;
mod requirement;
mod scrape;
mod tap_check;
mod update;

use std::thread;
use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{AddressDetail, AdminState, Interface, LinkName, PciPath};

use crate::agent::{AnyAgent, Effect, GuestAgent, GuestWait};
use crate::card::{CardRequest, PlugRequest};
use crate::hotplug::{self, Inventory, InventoryNic, LockedSandbox, TapBackends};
use crate::qmp::{self, Session};
use crate::sandbox::{CardRecord, Journal, LinkRecord, Lock, Sandbox, StateDir};
use crate::threads;
use repeat::Repeated;
use tap_check::{check_tap, warn_of_deleted_tap};

pub use crate::hotplug::{Mechanism, collect};
pub use crate::qmp::VSOCK_DEVICE;
pub use crate::reach::check_port;
pub use agent_status::{AgentStatus, ManagerStatus};
pub(crate) use attachments::recorded;
pub use attachments::{Detached, attach, attachments, card_names, check_attached, detach};
pub use card_status::CardStatus;
pub use cards::{Card, CardKey, CardState};
pub use condition::{CardGoal, Condition, await_condition};
pub use connection::connect;
pub(crate) use connection::connect_over;
pub(crate) use device_names::renamed;
pub use device_names::{OnDevice, change_on_devices};
pub use examine::{BusSlots, Examination, MachineStatus, Missing, MonitorStatus, examine};
pub use gc::{finish_left, gc};
pub use generate::{Generated, generate};
pub use host_settings::set_on_host;
pub use host_side::{CardOnHost, TapStatus, list_all_on_host, list_on_host, show_on_host};
pub(crate) use mirror::is_wired;
pub use mirror::{Mirrored, mirror};
pub(crate) use mtu::update_with_tap;
pub use overview::{Overview, RunState, overview, run_state};
pub(crate) use own_settings::OwnSettings;
pub use replace::{Replacement, replace};
pub(crate) use replaced::{
    leave_replaced, record_replaced, replaced, replaced_queues, settle_replaced,
};
pub use requirement::Requirement;
pub use scrape::{ConntrackFill, Scrape, scrape};
pub use update::update;

/// Takes the lock, undoes what commands that ended early have left, and plugs the cards again that they were
/// replacing.
pub(crate) fn begin(sandbox: &Sandbox) -> Result<LockedSandbox<'_>, Failure> {
    replaced::restore_left(sandbox)?;
    LockedSandbox::begin(sandbox)
}

/// Plugs a card and configures it in the guest; `wait` limits the guest's part. Returns the path of
/// the card. Repeating a request that succeeded changes nothing, but configures a card that has lost
/// its configuration by a restart of the guest. A card that is being removed and has something
/// that the request needs is awaited first.
///
/// # Errors
/// [`Kind::Exists`] if the name belongs to another card or interface, the MAC address to another
/// card, or the device to another process; [`Kind::Unsupported`] without a free slot; failures of
/// QEMU, the host's kernel and the agent.
pub fn plug(sandbox: &Sandbox, request: &CardRequest, wait: Duration) -> Result<PciPath, Failure> {
    let mut locked = begin(sandbox)?;
    let agent = connect_over(locked.qmp()?, sandbox)?;
    let all = AddressDetail::Listed;
    let queried = query_host_and_guest(agent, all, || Inventory::read(locked.qmp()?))?;
    plug_queried(locked, queried, request, wait)
}

/// Plugs a card of either kind. Returns its path, and the request as it was carried out.
///
/// # Errors
/// Those of [`plug`] and [`mirror()`], and [`Kind::Exists`] for a link that a card of another
/// program serves.
pub fn plug_any(
    sandbox: &Sandbox,
    request: &PlugRequest,
    wait: Duration,
) -> Result<(PciPath, CardRequest), Failure> {
    let request = match request {
        PlugRequest::Card(card) => return Ok((plug(sandbox, card, wait)?, card.clone())),
        PlugRequest::Mirror(request) => request,
    };
    match mirror(sandbox, request, wait)? {
        Mirrored::Card(path, card) => Ok((path, *card)),
        Mirrored::Adopted(mac) => {
            let message = format!(
                "the machine has a card of another program with the MAC address '{mac}' of the link"
            );
            Err(Failure::new(Kind::Exists, message).with_field("link"))
        }
    }
}

/// Plugs a card, given the devices of the machine and the interfaces of the guest.
fn plug_queried(
    mut locked: LockedSandbox<'_>,
    (inventory, agent, interfaces): (Inventory, AnyAgent, Vec<Interface>),
    request: &CardRequest,
    wait: Duration,
) -> Result<PciPath, Failure> {
    let sandbox = locked.sandbox;
    if let Some(card) = hotplug::in_the_way(&locked.journal, &inventory, request)? {
        sandbox.interrupt.begin_change()?;
        hotplug::remove(locked, card)?;
        return plug(sandbox, request, wait);
    }
    let nics = inventory.nics();
    mtu::finish(&mut locked, &nics, &interfaces)?;
    let records = locked.records(&nics)?;
    let machine = cards::of_machine(&nics);
    let (cards, guest) = cards::with_guest(machine, &interfaces, agent, &records)?;
    guest.agent.check_link(&request.link)?;
    let link = request.link.parts();
    if let Some(card) = cards.iter().find(|card| card.name == link.name) {
        check_tap(locked.qmp()?, &nics, card)?;
        let mut record = records.into_iter().find(|record| record.name == link.name);
        let repeated = repeat::compare(card, record.as_ref(), request)?;
        if let Some(record) = &mut record {
            hotplug::rejoin_bridge(&mut locked, &nics, record)?;
            hotplug::restore_settings(&mut locked, &nics, record)?;
        }
        let path = match repeated {
            Repeated::Satisfied(path) => {
                repeat::check_neighbors(&*guest.agent, &request.link)?;
                path
            }
            Repeated::NotConfigured(path) => {
                if let Some(record) = &record {
                    mtu::grow_tap(&mut locked, &nics, record, link.mtu)?;
                }
                let (limit, effect) = (wait, Effect::Changes);
                guest.configure(&path, &request.link, GuestWait { limit, effect })?;
                let _completion = sandbox.interrupt.complete();
                guest.add_routes(request)?;
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
    hotplug::plug(locked, &inventory, request, &guest, wait)
}

/// Configures a plugged card anew, as it was requested last. `wait` limits the guest's part.
///
/// # Errors
/// [`Kind::NotFound`] without the card or its configuration, [`Kind::Invalid`] for a key that fits
/// several cards, [`Kind::NotYet`] for a card without an interface; failures of QEMU and the agent.
pub fn apply(sandbox: &Sandbox, key: &CardKey, wait: Duration) -> Result<Card, Failure> {
    let mut locked = begin(sandbox)?;
    let agent = connect_over(locked.qmp()?, sandbox)?;
    let all = AddressDetail::Listed;
    let (nics, agent, interfaces) = query_host_and_guest(agent, all, || {
        Inventory::read_nics(locked.qmp()?, CardRecord::DEVICE_PREFIX)
    })?;
    let records = locked.records(&nics)?;
    let (cards, guest) = cards::with_guest(cards::of_machine(&nics), &interfaces, agent, &records)?;
    let card = cards::find(&cards, key)?.ok_or_else(|| key.not_found())?;
    check_tap(locked.qmp()?, &nics, card)?;
    let Card { name, mac, .. } = card;
    if let Some(state) = card.state.as_ref().filter(|state| !state.is_configurable()) {
        let message = format!("the card {name} can't be configured (in the guest: {state})");
        return Err(Failure::new(Kind::NotYet, message));
    }
    let mut record = records.into_iter().find(|record| record.name == *name);
    let link = record.as_ref().and_then(|record| record.link.as_ref());
    let Some((link, path)) = link.zip(card.path.as_ref()) else {
        return Err(replaced::lost(name));
    };
    let spec = link.spec.clone();
    // The image of the guest can have an older agent since its restart.
    guest.agent.check_link(&spec)?;
    if let Some(record) = &mut record {
        hotplug::rejoin_bridge(&mut locked, &nics, record)?;
        hotplug::restore_settings(&mut locked, &nics, record)?;
        mtu::grow_tap(&mut locked, &nics, record, spec.parts().mtu)?;
    }
    let (limit, effect) = (wait, Effect::Changes);
    let interface = guest.configure(path, &spec, GuestWait { limit, effect })?;
    let _completion = sandbox.interrupt.complete();
    let mirror = record.as_ref().and_then(|record| record.mirror.as_ref());
    // A link that is down can't have routes.
    if let Some(mirror) = mirror.filter(|_| spec.state() == AdminState::Up) {
        mirror::add_routes(sandbox, &guest, mirror, &spec)?;
    }
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

/// Cards of a locked sandbox, and the one that a key names.
struct FoundCard {
    nics: Vec<InventoryNic>,
    records: Vec<CardRecord>,
    card: Option<Card>,
}

/// Finds a card, by the guest's names too if the machine's don't suffice.
fn find_locked(locked: &mut LockedSandbox<'_>, key: &CardKey) -> Result<FoundCard, Failure> {
    let nics = Inventory::read_nics(locked.qmp()?, CardRecord::DEVICE_PREFIX)?;
    let records = locked.records(&nics)?;
    let card = cards::find_to_unplug(cards::of_machine(&nics), key, |cards| {
        let sandbox = locked.sandbox;
        let agent = connect_over(locked.qmp()?, sandbox)?;
        let interfaces = agent.interfaces(AddressDetail::Listed)?;
        Ok(cards::with_guest(cards, &interfaces, agent, &records)?.0)
    })?;
    Ok(FoundCard {
        nics,
        records,
        card,
    })
}

/// Unplugs a card, wherever it is in the guest.
///
/// # Errors
/// [`Kind::Invalid`] for a key that fits several cards; [`Kind::NotYet`] if the guest does not release
/// the card in time, [`Kind::Denied`] if it refuses; failures of QEMU and the host's kernel, and of an
/// agent that is needed for the names in the guest.
pub fn unplug(sandbox: &Sandbox, key: &CardKey) -> Result<Unplugged, Failure> {
    let mut locked = begin(sandbox)?;
    let Some(Card { name, .. }) = find_locked(&mut locked, key)?.card else {
        let is_given_up = match key {
            CardKey::Name(name) => replaced::discard(sandbox, name)?,
            CardKey::Mac(_) => false,
        };
        return Ok(if is_given_up {
            Unplugged::Removed
        } else {
            Unplugged::Absent
        });
    };
    replaced::discard(sandbox, &LinkName::from(&name))?;
    if let Some(record) = locked.card(&name)? {
        sandbox.interrupt.begin_change()?;
        hotplug::remove(locked, record)?;
    }
    Ok(Unplugged::Removed)
}

/// Lists the plugged cards with their configuration in the guest, in the order of its interface
/// indices, then those without an interface.
///
/// # Errors
/// Failures of QEMU and the agent.
pub fn list(sandbox: &Sandbox) -> Result<Vec<Card>, Failure> {
    let mut qmp = Session::connect(sandbox.monitor())?;
    let agent = connect_over(&mut qmp, sandbox)?;
    let all = AddressDetail::Listed;
    let ((nics, taps), agent, interfaces) = query_host_and_guest(agent, all, move || {
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

/// Runs a change of the guest's configuration while it holds the lock. A machine without a monitor has
/// no lock: no card can be plugged there.
///
/// # Errors
/// Those of [`connect`]; the failure of `change`.
pub fn change_guest<T>(
    sandbox: &Sandbox,
    change: impl FnOnce(&dyn GuestAgent) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let _lock = match sandbox.state() {
        Ok(state) => Some(lock_for_change(&state)?),
        Err(absent) if absent.kind() == Kind::NotFound => None,
        Err(failure) => return Err(failure),
    };
    change(&*connection::connect_alone(sandbox)?)
}

fn lock_for_change(state: &StateDir) -> Result<Lock, Failure> {
    let lock = Lock::take(state)?;
    state.describe(None)?;
    Ok(lock)
}

/// Queries the machine and the guest in parallel.
pub(crate) fn query_host_and_guest<T>(
    agent: AnyAgent,
    detail: AddressDetail,
    machine: impl FnOnce() -> Result<T, qmp::Error>,
) -> Result<(T, AnyAgent, Vec<Interface>), Failure> {
    let (machine, guest) = thread::scope(|scope| {
        let guest = threads::spawn(scope, move || {
            let interfaces = agent.interfaces(detail)?;
            Ok::<_, Failure>((agent, interfaces))
        })?;
        Ok::<_, Failure>((machine(), guest.join()))
    })?;
    let machine = machine?;
    let message = "internal error: the agent query thread panicked";
    let (agent, interfaces) = guest.map_err(|_| Failure::new(Kind::Other, message))??;
    Ok((machine, agent, interfaces))
}
