//! Plugging a card: TAP, descriptors, backend, device, guest.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use patchbay_protocols::failure::Failure;
use patchbay_protocols::model::{LinkParts, PciPath, QueuePairs};

use super::slot::{self, Slot};
use super::{Inventory, clear, tap};
use crate::agent::Agent;
use crate::input::AddIface;
use crate::qmp::Session;
use crate::qmp::command::{DeviceAdd, GetFd, MultiQueue, NetdevAdd, Vhost, Yes};
use crate::sandbox::{Card, Journal, Phase, Sandbox, TapBefore};

/// What plugging needs besides the request.
pub(crate) struct Bench<'a> {
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) qmp: &'a mut Session,
    pub(crate) agent: &'a Agent,
    pub(crate) journal: &'a Journal,
    /// How long the guest may take to show and configure the card.
    pub(crate) wait: Duration,
}

/// Plugs the card into the first free slot and has it configured; or leaves everything as it was.
pub(crate) fn attach(
    bench: &mut Bench<'_>,
    inventory: &Inventory,
    request: &AddIface,
) -> Result<PciPath, Failure> {
    let slot = slot::first_free(inventory)?;
    let LinkParts {
        name, mtu, queues, ..
    } = request.link.parts();
    let pairs = queues.unwrap_or(QueuePairs::ONE);
    let tap = tap::open(bench.sandbox.netns.as_deref(), &request.device, pairs)?;
    let fds = Descriptors::new(tap.queues);
    let mut card = Card {
        phase: Phase::Adding,
        name: name.clone(),
        device: request.device.clone(),
        attempt: fds.attempt.clone(),
        fds: fds.names().map(str::to_owned).collect(),
        tap: tap.before,
    };
    bench.journal.write(&card)?;
    let up = TapBefore {
        mtu: u32::from(mtu.get()),
        up: true,
    };
    let plugged = tap::set(bench.sandbox.netns.as_deref(), &request.device, up)
        .and_then(|()| plug(bench.qmp, &card, &fds, &slot, request))
        // QEMU has its own copies by now: with ours still open, a TAP that was made for the card
        // would outlive an unplugging that has to follow.
        .inspect(|()| drop(fds))
        .and_then(|()| {
            bench
                .agent
                .configure(&slot.path, &request.link, bench.wait)
                .map(drop)
        })
        .map_err(|failure| step("could not configure the card in the guest", failure));
    card.phase = Phase::Plugged;
    match plugged.and_then(|()| bench.journal.write(&card)) {
        Ok(()) => Ok(slot.path),
        Err(failure) => Err(undone(bench, &card, failure)),
    }
}

fn step(sentence: &str, failure: Failure) -> Failure {
    failure.in_step(sentence)
}

fn undone(bench: &mut Bench<'_>, card: &Card, failure: Failure) -> Failure {
    match clear(bench.sandbox, bench.qmp, bench.journal, card) {
        Ok(()) => failure,
        Err(undo) => {
            let sentence = format!("undoing will go on with the next command, because {undo}");
            undo.chain()
                .fold(failure.with_cause(sentence), Failure::with_cause)
        }
    }
}

/// The descriptors of one attempt, with the names by which the monitor gets to know them. The names
/// of two attempts never meet: one that is sent twice silently closes the first.
struct Descriptors {
    attempt: String,
    queues: Vec<(String, OwnedFd)>,
    /// As many as queues, or none.
    vhost: Vec<(String, OwnedFd)>,
}

impl Descriptors {
    fn new(queues: Vec<OwnedFd>) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let attempt = format!("{:x}", since.unwrap_or_default().as_micros());
        let named = |kind: char, fds: Vec<OwnedFd>| {
            let name = |index| format!("pb-{attempt}-{kind}{index}");
            fds.into_iter()
                .enumerate()
                .map(|(index, fd)| (name(index), fd))
                .collect()
        };
        let vhost = vhost(queues.len());
        Self {
            queues: named('q', queues),
            vhost: named('v', vhost),
            attempt,
        }
    }

    fn all(&self) -> impl Iterator<Item = &(String, OwnedFd)> {
        self.queues.iter().chain(&self.vhost)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.all().map(|(name, _)| name.as_str())
    }
}

/// vhost-net moves packets in the host's kernel; where it can't be opened QEMU moves them itself.
fn vhost(count: usize) -> Vec<OwnedFd> {
    let open = |_| {
        File::options()
            .read(true)
            .write(true)
            .open("/dev/vhost-net")
            .map(Into::into)
    };
    (0..count)
        .map(open)
        .collect::<Result<_, _>>()
        .unwrap_or_default()
}

/// The names with colons between them; QEMU takes a comma for part of a name.
fn joined(fds: &[(String, OwnedFd)]) -> String {
    let names: Vec<&str> = fds.iter().map(|(name, _)| name.as_str()).collect();
    names.join(":")
}

fn plug(
    qmp: &mut Session,
    card: &Card,
    fds: &Descriptors,
    slot: &Slot,
    request: &AddIface,
) -> Result<(), Failure> {
    let at = |sentence| move |error| step(sentence, Failure::from(&error));
    for (fdname, fd) in fds.all() {
        let sent = qmp.run_with_fd(&GetFd { fdname }, fd.as_fd());
        sent.map_err(at("could not hand the TAP to QEMU"))?;
    }
    let netdev = card.netdev_id();
    let backend = NetdevAdd {
        r#type: "tap",
        id: &netdev,
        fds: joined(&fds.queues),
        vhost: (!fds.vhost.is_empty()).then(|| Vhost {
            vhost: Yes,
            vhostforce: Yes,
            vhostfds: joined(&fds.vhost),
        }),
    };
    qmp.run(&backend)
        .map_err(at("could not make the card's backend"))?;
    let parts = request.link.parts();
    let pairs = parts.queues.map_or(1, QueuePairs::get);
    let device = DeviceAdd {
        driver: "virtio-net-pci",
        id: &Card::device_id(&card.name),
        netdev: &netdev,
        mac: parts.mac.to_string(),
        bus: &slot.bus,
        addr: slot.address(),
        romfile: "",
        multi_queue: (pairs > 1).then(|| MultiQueue {
            mq: Yes,
            vectors: u32::from(pairs) * 2 + 2,
        }),
    };
    qmp.run(&device)
        .map_err(at("could not plug the card"))
        .map(drop)
}
