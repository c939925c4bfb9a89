//! Plugs a card: host device, backend, PCI device, configuration in the guest.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{LinkFields, PciPath, QueuePairs};

use super::LockedSandbox;
use super::descriptors::Descriptors;
use super::inventory::Inventory;
use super::removal::remove;
use super::slot::{self, Slot};
use super::tap::{Tap, netns_of_bridge};
use super::vhost_user::VhostUserBackend;
use crate::agent::{Effect, GuestWait};
use crate::card::{Backend, CardRequest};
use crate::guest::Guest;
use crate::mirror::{MirrorRecord, WireRecord};
use crate::netns::{HostLinkState, Netns};
use crate::process::Process;
use crate::qmp::Session;
use crate::qmp::command::{AnnounceSelf, DeviceAdd, MultiQueue};
use crate::sandbox::{BackendRecord, CardRecord, HostRecord, MtuState, Phase, PortRecord};

/// Backend that passed its checks; nothing has been changed for it yet.
enum PreparedBackend<'a> {
    Tap(Tap, Descriptors),
    /// The TAP of a link, and the wire between them.
    Link(Tap, Descriptors, WireRecord),
    VhostUser(VhostUserBackend<'a>),
}

/// Plugs the card into the first free slot and configures it, or restores the earlier state.
/// `wait` limits the guest's part.
pub(crate) fn plug(
    mut locked: LockedSandbox<'_>,
    inventory: &Inventory,
    request: &CardRequest,
    guest: &Guest,
    wait: Duration,
) -> Result<PciPath, Failure> {
    let slot = slot::first_free(inventory)?;
    locked.sandbox.interrupt.begin_change()?;
    let suffix = new_suffix();
    let (prepared, host) = prepare(&mut locked, request, &suffix, wait)?;
    let card = CardRecord {
        phase: Phase::Adding,
        name: request.link.parts().name.clone(),
        device: request.device.clone(),
        netns: host.netns,
        netns_id: match &prepared {
            PreparedBackend::Tap(tap, _) | PreparedBackend::Link(tap, ..) => Some(tap.netns()),
            PreparedBackend::VhostUser(_) => None,
        },
        owner: Process::current(),
        suffix,
        fds: match &prepared {
            PreparedBackend::Tap(_, fds) | PreparedBackend::Link(_, fds, _) => {
                fds.names().map(str::to_owned).collect()
            }
            PreparedBackend::VhostUser(_) => Vec::new(),
        },
        backend: host.backend,
        path: Some(slot.path.clone()),
        link: Some(guest.record(&request.link)),
        mtu: MtuState::Settled,
        mirror: host.mirror,
        port: host.port,
        host: HostRecord::default(),
    };
    locked.journal.create(&card)?;
    let plugged = add_backend(&mut locked, request, &card, prepared, wait)
        .and_then(|()| add_device(locked.qmp()?, &card, &slot, request))
        .and_then(|()| {
            locked.release_monitor();
            let (limit, effect) = (wait, Effect::Undoable);
            guest.configure(&slot.path, &request.link, GuestWait { limit, effect })?;
            guest.add_routes(request)
        })
        .and_then(|()| {
            locked.journal.write(&CardRecord {
                phase: Phase::Plugged,
                owner: None,
                ..card.clone()
            })
        });
    match plugged {
        Ok(()) => {
            announce_to_neighbours(&mut locked, &card);
            Ok(slot.path)
        }
        Err(failure) => Err(undo(locked, card, failure)),
    }
}

/// Returns a suffix for QEMU's ids: the time in microseconds, unique within a sandbox.
fn new_suffix() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!("{:x}", since.unwrap_or_default().as_micros())
}

fn queue_pairs(request: &CardRequest) -> QueuePairs {
    request.link.parts().queues.unwrap_or(QueuePairs::ONE)
}

/// Parts of a card's record that belong to its host device.
struct HostPart {
    netns: Option<PathBuf>,
    backend: BackendRecord,
    mirror: Option<MirrorRecord>,
    port: Option<PortRecord>,
}

fn prepare<'a>(
    locked: &mut LockedSandbox<'_>,
    request: &'a CardRequest,
    suffix: &str,
    wait: Duration,
) -> Result<(PreparedBackend<'a>, HostPart), Failure> {
    let pairs = queue_pairs(request);
    let netns = locked.sandbox.netns.clone();
    let without_bridge = |backend| HostPart {
        netns: netns.clone(),
        backend,
        mirror: None,
        port: None,
    };
    match &request.backend {
        Backend::Tap => {
            let namespace = Netns::open_or_current(netns.as_deref())?;
            let tap = Tap::new(namespace, &request.device)?;
            let (descriptors, backend) = open_tap(locked, &tap, suffix, pairs)?;
            Ok((
                PreparedBackend::Tap(tap, descriptors),
                without_bridge(backend),
            ))
        }
        Backend::Bridge(port) => {
            let namespace = netns_of_bridge(locked.sandbox, port)?;
            let path = netns.as_ref().map(|_| namespace.path().to_owned());
            let tap = Tap::new(namespace, &request.device)?;
            let membership = tap.membership(port)?;
            let (descriptors, backend) = open_tap(locked, &tap, suffix, pairs)?;
            let wanted = port.clone();
            let host = HostPart {
                netns: path,
                port: Some(PortRecord { wanted, membership }),
                ..without_bridge(backend)
            };
            Ok((PreparedBackend::Tap(tap, descriptors), host))
        }
        Backend::Link(link) => {
            let namespace = Netns::open_or_current(netns.as_deref())?;
            link.check_netns(&namespace)?;
            let tap = Tap::new(namespace, &request.device)?;
            let wire = WireRecord::plan(&tap.rtnetlink()?, link.index)?;
            let descriptors = Descriptors::new(suffix, tap.create(pairs)?);
            let host = HostPart {
                mirror: Some(MirrorRecord::new(link, wire.clone())),
                ..without_bridge(BackendRecord::OwnTap)
            };
            Ok((PreparedBackend::Link(tap, descriptors, wire), host))
        }
        Backend::VhostUser(socket, listener) => {
            let backend = VhostUserBackend {
                socket,
                listener: *listener,
                pairs,
                interrupt: locked.sandbox.interrupt.clone(),
            };
            backend.check(locked.qmp()?, wait)?;
            let record = BackendRecord::VhostUser(socket.as_path().to_owned(), *listener);
            Ok((PreparedBackend::VhostUser(backend), without_bridge(record)))
        }
    }
}

/// Opens the queues of a TAP, which is created if it is missing.
fn open_tap(
    locked: &LockedSandbox<'_>,
    tap: &Tap,
    suffix: &str,
    pairs: QueuePairs,
) -> Result<(Descriptors, BackendRecord), Failure> {
    let (queues, before) = tap
        .open(pairs)
        .map_err(|failure| name_user(locked, tap, failure))?;
    let record = before.map_or(BackendRecord::OwnTap, BackendRecord::ExistingTap);
    Ok((Descriptors::new(suffix, queues), record))
}

/// Names the card of this sandbox that uses a TAP, if there is one.
fn name_user(locked: &LockedSandbox<'_>, tap: &Tap, failure: Failure) -> Failure {
    if failure.kind() != Kind::Exists {
        return failure;
    }
    let cards = locked.journal.cards().unwrap_or_default();
    let user = cards
        .iter()
        .find(|card| card.device == *tap.device() && card.netns_id == Some(tap.netns()));
    match user {
        Some(CardRecord { device, name, .. }) => {
            let message =
                format!("device '{device}' is in use by the card '{name}' of this sandbox");
            Failure::new(Kind::Exists, message).with_field("device")
        }
        None => failure,
    }
}

fn add_backend(
    locked: &mut LockedSandbox<'_>,
    request: &CardRequest,
    card: &CardRecord,
    prepared: PreparedBackend<'_>,
    wait: Duration,
) -> Result<(), Failure> {
    let _phase = tracing::info_span!("backend").entered();
    let mtu = u32::from(request.link.parts().mtu.get());
    match prepared {
        // Closes the descriptors, of which QEMU has copies: open ones would keep a TAP that was
        // created for the card alive while it is cleaned up.
        PreparedBackend::Tap(tap, descriptors) => {
            if let Some(port) = &card.port {
                tap.join(&port.wanted)?;
            }
            tap.set(HostLinkState { mtu, up: true })?;
            descriptors.add_backend(locked.qmp()?, card)
        }
        PreparedBackend::Link(tap, descriptors, wire) => {
            tap.silence()?;
            wire.connect(&tap.rtnetlink()?, tap.index()?)?;
            tap.set(HostLinkState { mtu, up: true })?;
            descriptors.add_backend(locked.qmp()?, card)
        }
        PreparedBackend::VhostUser(backend) => backend.add_backend(locked.qmp()?, card, wait),
    }
}

fn add_device(
    qmp: &mut Session,
    card: &CardRecord,
    slot: &Slot,
    request: &CardRequest,
) -> Result<(), Failure> {
    let _phase = tracing::info_span!("plug").entered();
    let LinkFields { mac, .. } = request.link.parts();
    let pairs = u32::from(queue_pairs(request).get());
    let device = DeviceAdd {
        driver: "virtio-net-pci",
        id: &CardRecord::device_id(&card.name),
        netdev: &card.netdev_id(),
        mac: mac.to_string(),
        bus: &slot.bus,
        addr: slot.address(),
        romfile: "",
        multi_queue: (pairs > 1).then(|| MultiQueue {
            mq: true,
            vectors: pairs * 2 + 2,
        }),
    };
    let added = qmp.run(&device).map(drop);
    added.map_err(|error| Failure::from(error).context("could not plug the card"))
}

/// Announces the card's addresses: a host that looked for one of them earlier repeats its question
/// only after a second.
fn announce_to_neighbours(locked: &mut LockedSandbox<'_>, card: &CardRecord) {
    let announcement = AnnounceSelf {
        initial: 50,
        max: 50,
        step: 0,
        rounds: 1,
        interfaces: [&CardRecord::device_id(&card.name)],
    };
    // Neighbours find the card without it.
    let _ = locked.qmp().and_then(|qmp| qmp.run(&announcement));
}

fn undo(locked: LockedSandbox<'_>, card: CardRecord, failure: Failure) -> Failure {
    let (interrupt, name) = (&locked.sandbox.interrupt, card.name.clone());
    match remove(locked, card) {
        Ok(()) if interrupt.is_taken() => {
            failure.with_cause(format!("the card {name} is unplugged again"))
        }
        Ok(()) => failure,
        Err(undo) => {
            let message =
                format!("cleanup is incomplete and will be retried by the next command: {undo}");
            undo.chain()
                .fold(failure.with_cause(message), Failure::with_cause)
        }
    }
}
