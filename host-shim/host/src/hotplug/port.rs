//! Cards whose TAPs are ports of bridges, while they are plugged.

use patchbay_types::failure::Failure;

use super::card_netns;
use super::detached::{TapBackends, TapState, card_tap};
use super::inventory::InventoryNic;
use super::locked::LockedSandbox;
use super::tap::Tap;
use crate::sandbox::{CardRecord, Membership, Sandbox};

/// Returns whether another program has taken the TAP of a card out of its bridge, or removed the bridge.
pub(crate) fn has_left_bridge(
    sandbox: &Sandbox,
    taps: &TapBackends,
    (card, record): (&InventoryNic, &CardRecord),
) -> Result<bool, Failure> {
    let Some(port) = &record.port else {
        return Ok(false);
    };
    let device = match taps.state_of(card) {
        TapState::Present(device) => device,
        TapState::Unknown => record.device.clone(),
        // Nothing but unplugging the card helps.
        TapState::None | TapState::Deleted => return Ok(false),
    };
    let Some(netns) = card_netns::open(Some(record), sandbox.netns.as_deref())? else {
        return Ok(false);
    };
    let tap = Tap::new(netns, &device)?;
    Ok(tap.exists()? && tap.membership(&port.wanted).ok() != Some(Membership::Foreign))
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
