//! Plugging a card: what is behind it, the backend, the device, the guest.

use std::time::{Duration, SystemTime};

use patchbay_types::failure::Failure;
use patchbay_types::{LinkFields, PciPath, QueuePairs};

use super::descriptors::Descriptors;
use super::slot::{self, Slot};
use super::{Inventory, clear, tap, vhost_user};
use crate::agent::Agent;
use crate::card::{Backend, CardRequest};
use crate::netns::LinkState;
use crate::qmp::Session;
use crate::qmp::command::{DeviceAdd, MultiQueue, Yes};
use crate::sandbox::{BackendRecord, CardRecord, Journal, Phase, Sandbox};

/// What plugging needs besides the request.
pub struct Bench<'a> {
    pub sandbox: &'a Sandbox,
    pub qmp: &'a mut Session,
    pub agent: &'a Agent,
    pub journal: &'a Journal,
    /// How long the guest may take to show and configure the card.
    pub wait: Duration,
}

/// What was found fit to stand behind the card; nothing has changed yet.
enum Ready<'a> {
    Tap(Descriptors),
    VhostUser(vhost_user::Port<'a>),
}

/// Plugs the card into the first free slot and has it configured; or leaves everything as it was.
pub fn attach(
    bench: &mut Bench<'_>,
    inventory: &Inventory,
    request: &CardRequest,
) -> Result<PciPath, Failure> {
    let slot = slot::first_free(inventory)?;
    let attempt = attempt();
    let (ready, behind) = prepare(bench, request, &attempt)?;
    let card = CardRecord {
        phase: Phase::Adding,
        name: request.link.parts().name.clone(),
        device: request.device.clone(),
        suffix: attempt,
        fds: match &ready {
            Ready::Tap(fds) => fds.names().map(str::to_owned).collect(),
            Ready::VhostUser(_) => Vec::new(),
        },
        backend: behind,
    };
    bench.journal.write(&card)?;
    let plugged = make_backend(bench, request, &card, ready)
        .and_then(|()| plug(bench.qmp, &card, &slot, request))
        .and_then(|()| configure(bench, &slot, request));
    let done = CardRecord {
        phase: Phase::Plugged,
        ..card.clone()
    };
    match plugged.and_then(|()| bench.journal.write(&done)) {
        Ok(()) => Ok(slot.path),
        Err(failure) => Err(undone(bench, &card, failure)),
    }
}

/// Names an attempt: microseconds, so that no two of one sandbox meet.
fn attempt() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!("{:x}", since.unwrap_or_default().as_micros())
}

fn pairs(request: &CardRequest) -> QueuePairs {
    request.link.parts().queues.unwrap_or(QueuePairs::ONE)
}

fn prepare<'a>(
    bench: &mut Bench<'_>,
    request: &'a CardRequest,
    suffix: &str,
) -> Result<(Ready<'a>, BackendRecord), Failure> {
    let pairs = pairs(request);
    match &request.backend {
        Backend::Tap => {
            let tap = tap::open(bench.sandbox.netns.as_deref(), &request.device, pairs)?;
            let behind = tap
                .before
                .map_or(BackendRecord::OwnTap, BackendRecord::ExistingTap);
            Ok((Ready::Tap(Descriptors::new(suffix, tap.queues)), behind))
        }
        Backend::VhostUser(socket, listener) => {
            let port = vhost_user::Port {
                socket,
                listener: *listener,
                pairs,
            };
            port.check(bench.qmp, bench.wait)?;
            let behind = BackendRecord::VhostUser(socket.as_path().to_owned(), *listener);
            Ok((Ready::VhostUser(port), behind))
        }
    }
}

fn make_backend(
    bench: &mut Bench<'_>,
    request: &CardRequest,
    card: &CardRecord,
    ready: Ready<'_>,
) -> Result<(), Failure> {
    let _phase = tracing::info_span!("backend").entered();
    match ready {
        // The descriptors end here: QEMU has its own copies by then, and with ours still open a TAP
        // that was made for the card would outlive an unplugging that has to follow.
        Ready::Tap(fds) => {
            let mtu = u32::from(request.link.parts().mtu.get());
            let up = LinkState { mtu, up: true };
            tap::set(bench.sandbox.netns.as_deref(), &request.device, up)?;
            fds.make_backend(bench.qmp, card)
        }
        Ready::VhostUser(port) => port.make_backend(bench.qmp, card, bench.wait),
    }
}

fn plug(
    qmp: &mut Session,
    card: &CardRecord,
    slot: &Slot,
    request: &CardRequest,
) -> Result<(), Failure> {
    let _phase = tracing::info_span!("plug").entered();
    let LinkFields { mac, .. } = request.link.parts();
    let pairs = u32::from(pairs(request).get());
    let device = DeviceAdd {
        driver: "virtio-net-pci",
        id: &CardRecord::device_id(&card.name),
        netdev: &card.netdev_id(),
        mac: mac.to_string(),
        bus: &slot.bus,
        addr: slot.address(),
        romfile: "",
        multi_queue: (pairs > 1).then(|| MultiQueue {
            mq: Yes,
            vectors: pairs * 2 + 2,
        }),
    };
    let plugged = qmp.run(&device).map(drop);
    plugged.map_err(|error| Failure::from(error).context("could not plug the card"))
}

fn configure(bench: &Bench<'_>, slot: &Slot, request: &CardRequest) -> Result<(), Failure> {
    let configured = bench.agent.configure(&slot.path, &request.link, bench.wait);
    let step = "could not configure the card in the guest";
    configured
        .map(drop)
        .map_err(|failure| failure.context(step))
}

fn undone(bench: &mut Bench<'_>, card: &CardRecord, failure: Failure) -> Failure {
    match clear(bench.sandbox, bench.qmp, bench.journal, card) {
        Ok(()) => failure,
        Err(undo) => {
            let sentence = format!("undoing will go on with the next command, because {undo}");
            undo.chain()
                .fold(failure.with_cause(sentence), Failure::with_cause)
        }
    }
}
