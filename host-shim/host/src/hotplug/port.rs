//! Cards whose TAPs are ports of bridges, while they are plugged.

use patchbay_types::failure::Failure;

use super::card_netns;
use super::detached::{TapBackends, TapState, card_tap};
use super::inventory::InventoryNic;
use super::locked::LockedSandbox;
use super::tap::Tap;
use crate::netns::HostLink;
use crate::sandbox::{CardRecord, Membership, Sandbox};

/// Returns the TAP of a card under its present name; `None` for another backend, and for a TAP that was
/// deleted or whose network namespace can't be found any more.
fn present_tap(
    sandbox: &Sandbox,
    taps: &TapBackends,
    (card, record): (&InventoryNic, Option<&CardRecord>),
) -> Result<Option<Tap>, Failure> {
    let device = match (taps.state_of(card), record) {
        (TapState::Present(device), _) => device,
        (TapState::Unknown, Some(record)) if record.socket().is_none() => record.device.clone(),
        (TapState::None | TapState::Deleted | TapState::Unknown, _) => return Ok(None),
    };
    let Some(netns) = card_netns::open(record, sandbox.netns.as_deref())? else {
        return Ok(None);
    };
    let tap = Tap::new(netns, &device)?;
    Ok(tap.exists()?.then_some(tap))
}

/// Returns whether another program has taken the TAP of a card out of its bridge, or removed the bridge.
pub(crate) fn has_left_bridge(
    sandbox: &Sandbox,
    taps: &TapBackends,
    (card, record): (&InventoryNic, &CardRecord),
) -> Result<bool, Failure> {
    let Some(port) = &record.port else {
        return Ok(false);
    };
    // Nothing but unplugging a card helps if its TAP is gone.
    let tap = present_tap(sandbox, taps, (card, Some(record)))?;
    Ok(tap.is_some_and(|tap| tap.membership(&port.wanted).ok() != Some(Membership::Foreign)))
}

/// Reads the TAP of a card.
pub(crate) fn tap_status(
    sandbox: &Sandbox,
    taps: &TapBackends,
    card: (&InventoryNic, Option<&CardRecord>),
) -> Result<Option<HostLink>, Failure> {
    match present_tap(sandbox, taps, card)? {
        Some(tap) => tap.link(),
        None => Ok(None),
    }
}

/// Makes the TAP of a plugged card a port of its bridge again.
pub(crate) fn rejoin_bridge(
    locked: &mut LockedSandbox<'_>,
    nics: &[InventoryNic],
    record: &CardRecord,
) -> Result<(), Failure> {
    let id = CardRecord::device_id(&record.name);
    let nic = nics.iter().find(|nic| nic.id == id);
    let Some((port, nic)) = record.port.as_ref().zip(nic) else {
        return Ok(());
    };
    match card_tap(locked, nic, Some(record))? {
        Some(tap) => tap.join(&port.wanted),
        None => Ok(()),
    }
}
