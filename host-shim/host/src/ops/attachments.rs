//! Cards of CNI attachments.

use std::time::Duration;

use patchbay_types::AddressDetail;
use patchbay_types::failure::{Failure, Kind};

use super::difference::guest_difference;
use super::{begin, connect_over, mirror, query_host_and_guest};
use crate::hotplug::{self, Inventory};
use crate::kata_messages;
use crate::mirror::{Attachment, Keeper, MirrorRequest};
use crate::netns::Netns;
use crate::ops::Mirrored;
use crate::qmp::Session;
use crate::sandbox::{CardRecord, Journal, Lock, Phase, Sandbox};

/// Result of [`detach`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// The card has been removed.
    Removed,
    /// The machine has no card of the attachment.
    Absent,
    /// The machine has ended, and its cards with it.
    Ended,
}

/// Plugs the card of an attachment, as [`mirror()`](super::mirror()). The card that `patchbay watch` has
/// plugged for the link becomes that of the attachment.
///
/// # Errors
/// Those of [`mirror()`](super::mirror()), and [`Kind::Exists`] if the name belongs to the card of
/// another attachment or of none.
pub fn attach(
    sandbox: &Sandbox,
    request: &MirrorRequest,
    wait: Duration,
) -> Result<Mirrored, Failure> {
    let mut mirrored = take_over_and_mirror(sandbox, request, wait);
    // The watch can have plugged a card for the link in between.
    if recorded(sandbox)?
        .iter()
        .any(|card| is_of_watch(card, request))
    {
        mirrored = take_over_and_mirror(sandbox, request, wait);
    }
    mirrored
}

fn take_over_and_mirror(
    sandbox: &Sandbox,
    request: &MirrorRequest,
    wait: Duration,
) -> Result<Mirrored, Failure> {
    let is_named = |card: &CardRecord| card.name == request.name;
    if recorded(sandbox)?.iter().any(is_named) {
        take_over(sandbox, request)?;
    }
    mirror(sandbox, request, wait)
}

/// Returns whether `patchbay watch` has plugged a card for the link of a request.
fn is_of_watch(card: &CardRecord, request: &MirrorRequest) -> bool {
    let mirror = card.mirror.as_ref();
    card.phase == Phase::Plugged
        && mirror
            .is_some_and(|mirror| mirror.keeper == Keeper::Watch && mirror.link == request.link)
}

/// Makes the card that `patchbay watch` has plugged for a link that of an attachment. The lock waits until a plug
/// of the watch is complete.
///
/// # Errors
/// [`Kind::Exists`] for a card of another attachment or of none.
fn take_over(sandbox: &Sandbox, request: &MirrorRequest) -> Result<(), Failure> {
    let locked = begin(sandbox)?;
    let Some(mut record) = locked.journal.card(&request.name)? else {
        return Ok(());
    };
    if is_of_watch(&record, request) {
        if let Some(mirror) = &mut record.mirror {
            mirror.take_over(request);
        }
        return locked.journal.write(&record);
    }
    if attachment(&record) == request.attachment.as_ref() {
        return Ok(());
    }
    let phrase = kata_messages::interface_exists(&request.name);
    let message = format!("{phrase}, of another attachment or plugged by hand");
    Err(Failure::new(Kind::Exists, message).with_field("name"))
}

/// Unplugs the card of an attachment. A card of the same name that was plugged otherwise stays.
///
/// # Errors
/// [`Kind::NotYet`] if the guest does not release the card in time, [`Kind::Denied`] if it refuses;
/// failures of QEMU and the host's kernel.
pub fn detach(sandbox: &Sandbox, wanted: &Attachment) -> Result<Detached, Failure> {
    match unplug(sandbox, wanted) {
        Err(_) if sandbox.has_ended() => Ok(Detached::Ended),
        unplugged => unplugged,
    }
}

fn unplug(sandbox: &Sandbox, wanted: &Attachment) -> Result<Detached, Failure> {
    if !has_card(sandbox, wanted)? {
        return Ok(Detached::Absent);
    }
    let locked = begin(sandbox)?;
    let mut cards = locked.journal.cards()?.into_iter();
    let Some(card) = cards.find(|card| attachment(card) == Some(wanted)) else {
        return Ok(Detached::Removed);
    };
    sandbox.interrupt.begin_change()?;
    hotplug::remove(locked, card)?;
    Ok(Detached::Removed)
}

/// Returns whether the machine has a card of the attachment once no other command works on it. The
/// monitor, which another program may hold, is not needed.
fn has_card(sandbox: &Sandbox, wanted: &Attachment) -> Result<bool, Failure> {
    let state = sandbox.state()?;
    if !state.path().exists() {
        return Ok(false);
    }
    let _lock = Lock::take(&state)?;
    let journal = Journal::at(state.path());
    // Of an ADD that was killed, which DEL follows.
    journal.remove_unfinished()?;
    let cards = journal.cards()?;
    Ok(cards.iter().any(|card| attachment(card) == Some(wanted)))
}

/// Lists the attachments of a machine's cards.
///
/// # Errors
/// A journal that can't be read.
pub fn attachments(sandbox: &Sandbox) -> Result<Vec<Attachment>, Failure> {
    let cards = recorded(sandbox)?;
    Ok(cards.iter().filter_map(attachment).cloned().collect())
}

/// Checks that the card of an attachment has the configuration of its link and is wired to it. An
/// attachment without a card is one that the machine serves by other means.
///
/// # Errors
/// [`Kind::NotFound`] if the card, its link or the wire is gone, [`Kind::Exists`] for another
/// configuration in the guest; failures of QEMU and the agent.
pub fn check_attached(sandbox: &Sandbox, wanted: &Attachment) -> Result<(), Failure> {
    let cards = recorded(sandbox)?;
    let mut cards = cards.iter();
    let Some(card) = cards.find(|card| attachment(card) == Some(wanted)) else {
        return Ok(());
    };
    let mut qmp = Session::connect(sandbox.monitor())?;
    let agent = connect_over(&mut qmp, sandbox)?;
    let (nics, _, interfaces) = query_host_and_guest(agent, AddressDetail::Listed, move || {
        Inventory::read_nics(&mut qmp, CardRecord::DEVICE_PREFIX)
    })?;
    let gone = |part: &str| {
        let message = format!("the card {} {part}", card.name);
        Err(Failure::new(Kind::NotFound, message))
    };
    let name = Some(card.name.as_str());
    let nic = nics.iter().find(|nic| nic.name() == name);
    let Some((nic, mirrored)) = nic.zip(card.mirror.as_ref()) else {
        return gone("is not plugged");
    };
    let netns = Netns::open_or_current(sandbox.netns.as_deref())?;
    if !mirror::is_wired(&netns, card, mirrored)? {
        return gone("is not wired to its link");
    }
    let Some(link) = &card.link else {
        return gone("was not configured");
    };
    let expected = crate::mirror::read(&netns, &mirrored.request(&link.spec), &[])?.link;
    let mut interfaces = interfaces.iter();
    let Some(interface) = interfaces.find(|interface| interface.path == nic.path) else {
        return gone("has no interface in the guest");
    };
    let difference = if interface.mac == Some(expected.parts().mac) {
        guest_difference(interface, &expected)
    } else {
        Some("hwAddr".to_owned())
    };
    match difference {
        None => Ok(()),
        Some(difference) => {
            let name = &card.name;
            let message = format!("the card {name} differs from its link in its {difference}");
            Err(Failure::new(Kind::Exists, message))
        }
    }
}

fn attachment(card: &CardRecord) -> Option<&Attachment> {
    card.mirror.as_ref()?.attachment.as_ref()
}

/// Lists the names of the cards in the journal of a sandbox, without QEMU and the agent.
///
/// # Errors
/// A journal that can't be read.
pub fn card_names(sandbox: &Sandbox) -> Result<Vec<String>, Failure> {
    let cards = recorded(sandbox)?.into_iter();
    Ok(cards.map(|card| card.name.to_string()).collect())
}

/// Reads the journal; one without a machine has no cards.
pub(crate) fn recorded(sandbox: &Sandbox) -> Result<Vec<CardRecord>, Failure> {
    Journal::of(sandbox)
}
