//! Removal of a card, which lasts until the guest has released it.
//!
//! The lock is held while the removal is started and while it is finished, not in between. The phase
//! `removing` in the journal keeps slot, MAC address, device and name of the card taken, and any
//! command finishes the removal of a card that the guest has released.

use std::io::{PipeReader, pipe};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{PciPath, SlotPower};

use super::presence::{Presence, device_ids};
use super::unplug::{remove_backend, request_removal};
use super::{Inventory, LockedSandbox, Mechanism, detached, slot};
use crate::agent;
use crate::card::CardRequest;
use crate::process::Process;
use crate::reach;
use crate::sandbox::{CardRecord, Journal, Phase, Sandbox};

/// Time for the guest to release a card: five times that of native hot-plug.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the guest to release a card after a signal: a removal can't be undone.
const INTERRUPTED_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of repeated requests: one that precedes the guest's ACPI driver is lost.
const REPEAT_INTERVAL: Duration = Duration::from_secs(2);
/// Interval of queries while the agent waits for the card to disappear. QEMU's event could only be
/// received by keeping its monitor, which serves one client.
const QUERY_INTERVAL: Duration = Duration::from_secs(1);
/// First interval of queries without the agent; each is twice as long as that before.
const FIRST_QUERY_INTERVAL: Duration = Duration::from_millis(50);

/// Removes a card, and waits until the guest has released it.
///
/// # Errors
/// [`Kind::NotYet`] if the guest doesn't release the card in time.
pub(crate) fn remove(mut locked: LockedSandbox<'_>, card: CardRecord) -> Result<(), Failure> {
    let _phase = tracing::info_span!("unplug").entered();
    let sandbox = locked.sandbox;
    let Some(removal) = locked.start_removal(card)? else {
        return Ok(());
    };
    drop(locked);
    removal.finish(sandbox, Instant::now() + RELEASE_TIMEOUT)
}

/// Returns a card that is being removed and has what a request needs: name, device, MAC address or the
/// last slot.
pub(crate) fn in_the_way(
    journal: &Journal,
    inventory: &Inventory,
    request: &CardRequest,
) -> Result<Option<CardRecord>, Failure> {
    let link = request.link.parts();
    let nics = inventory.nics();
    let has_mac = |card: &CardRecord| {
        let id = CardRecord::device_id(&card.name);
        nics.iter().any(|nic| nic.id == id && nic.mac == link.mac)
    };
    let is_full = slot::first_free(inventory).is_err();
    Ok(journal.cards()?.into_iter().find(|card| {
        card.phase == Phase::Removing
            && (is_full || card.name == link.name || card.device == request.device || has_mac(card))
    }))
}

/// Card whose removal was requested and that the guest has not released yet.
#[derive(Debug)]
pub(super) struct Removal {
    card: CardRecord,
    guest: Option<GuestPart>,
}

/// Part of the agent in a removal.
#[derive(Debug)]
struct GuestPart {
    path: PciPath,
    power: SlotPower,
}

impl LockedSandbox<'_> {
    /// Records and requests the removal of a card. Finishes it, and returns `None`, if the guest does
    /// not have the card any more.
    pub(super) fn start_removal(&mut self, card: CardRecord) -> Result<Option<Removal>, Failure> {
        detached::prepare_unplug(self, &card)?;
        let card = CardRecord {
            phase: Phase::Removing,
            owner: Process::current(),
            ..card
        };
        self.record_removal(&card);
        let requested = request_removal(self.qmp()?, &card.name)?;
        if requested == Presence::Absent {
            remove_backend(self, &card)?;
            return Ok(None);
        }
        let guest = self.guest_part(&card)?;
        Ok(Some(Removal { card, guest }))
    }

    /// Returns the agent's part; `None` if the agent can't be reached or the device is gone.
    fn guest_part(&mut self, card: &CardRecord) -> Result<Option<GuestPart>, Failure> {
        let endpoint = &self.sandbox.agent;
        let qmp = self.qmp()?;
        if reach::check(qmp, endpoint).is_err() {
            return Ok(None);
        }
        let id = CardRecord::device_id(&card.name);
        let nics = Inventory::read_nics(qmp, &id)?;
        let nic = nics.into_iter().find(|nic| nic.id == id);
        let Some(path) = nic.and_then(|nic| nic.path) else {
            return Ok(None);
        };
        // A card on a root bus has ACPI in any case.
        let power = match Mechanism::read(qmp)? {
            Mechanism::Native if path.steps().len() > 1 => SlotPower::Off,
            _ => SlotPower::Keep,
        };
        Ok(Some(GuestPart { path, power }))
    }

    /// Finishes the removal of a card if the guest has released it; returns whether it is finished.
    fn finish_removal(&mut self, card: &CardRecord) -> Result<bool, Failure> {
        let record = self.journal.card(&card.name)?;
        if record.is_none_or(|record| record.suffix != card.suffix) {
            // Another command has finished it.
            return Ok(true);
        }
        let id = CardRecord::device_id(&card.name);
        if device_ids(self.qmp()?)?.contains(&id) {
            return Ok(false);
        }
        remove_backend(self, card)?;
        Ok(true)
    }

    /// Records that no process waits for the card any more.
    fn stop_waiting(&mut self, card: CardRecord) {
        let owner = None;
        self.record_removal(&CardRecord { owner, ..card });
    }

    /// Records the phase of a removal. A full file system must not prevent it: until the guest has released
    /// the card, other commands then find it plugged, and the first one after that removes the rest.
    fn record_removal(&mut self, card: &CardRecord) {
        if let Err(failure) = self.journal.write(card) {
            tracing::warn!(
                "the removal of the card {} goes on: {}",
                card.name,
                failure.line()
            );
        }
    }
}

impl Removal {
    /// Waits until the guest has released the card, and finishes the removal.
    ///
    /// # Errors
    /// [`Kind::NotYet`] if the guest doesn't release the card before the deadline.
    pub(super) fn finish(self, sandbox: &Sandbox, deadline: Instant) -> Result<(), Failure> {
        let Self { card, guest } = self;
        let interrupt = &sandbox.interrupt;
        let timeout = deadline.saturating_duration_since(Instant::now());
        let mut report = guest.and_then(|guest| guest.request(sandbox, timeout));
        let mut interval = FIRST_QUERY_INTERVAL;
        let mut repeat_at = Instant::now() + REPEAT_INTERVAL;
        loop {
            let deadline = interrupt.limit(deadline, INTERRUPTED_TIMEOUT);
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(reader) = &report {
                if is_closed_within(reader, QUERY_INTERVAL.min(left)) {
                    report = None;
                }
            } else {
                thread::sleep(interval.min(left));
                interval = QUERY_INTERVAL.min(interval * 2);
            }
            let mut locked = LockedSandbox::open(sandbox)?;
            if locked.finish_removal(&card)? {
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline {
                let name = card.name.clone();
                locked.stop_waiting(card);
                let message = format!(
                    "the guest has not released the card {name} yet: its removal continues, and lists \
                     show it until then"
                );
                return Err(Failure::new(Kind::NotYet, message));
            }
            if now >= repeat_at {
                request_removal(locked.qmp()?, &card.name)?;
                repeat_at = now + REPEAT_INTERVAL;
            }
        }
    }
}

impl GuestPart {
    /// Requests the release of the card from the agent. The returned pipe is closed when the card is
    /// gone, or if the agent can't release it; `None` if the agent doesn't answer.
    fn request(self, sandbox: &Sandbox, timeout: Duration) -> Option<PipeReader> {
        let agent = agent::connect(&sandbox.agent, &sandbox.interrupt).ok()?;
        let (reader, writer) = pipe().ok()?;
        let release = move || {
            if let Err(failure) = agent.release(&self.path, self.power, timeout) {
                tracing::debug!("the agent could not release the card: {}", failure.line());
            }
            drop(writer);
        };
        thread::Builder::new().spawn(release).ok()?;
        Some(reader)
    }
}

/// Waits until the other end of the pipe is closed; returns whether it is.
fn is_closed_within(reader: &PipeReader, timeout: Duration) -> bool {
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    // An interrupted or failed poll only leads to an early query.
    matches!(poll(&mut fds, timeout), Ok(ready) if ready > 0)
}
