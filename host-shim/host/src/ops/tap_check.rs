//! Cards whose TAP was deleted on the host.

use patchbay_types::failure::{Failure, Kind};

use super::cards::Card;
use crate::hotplug::{InventoryNic, TapBackends, TapState};
use crate::kata_messages;
use crate::qmp::Session;

/// Rejects a card whose TAP was deleted: QEMU ends if the guest changes its queues.
pub(super) fn check_tap(
    qmp: &mut Session,
    nics: &[InventoryNic],
    card: &Card,
) -> Result<(), Failure> {
    let nic = nics
        .iter()
        .find(|nic| nic.name() == Some(card.name.as_str()));
    let taps = TapBackends::read(qmp)?;
    if nic.is_none_or(|nic| taps.state_of(nic) != TapState::Deleted) {
        return Ok(());
    }
    let phrase = kata_messages::interface_exists(&card.name);
    let message = format!("{phrase}, and its TAP device was deleted on the host: unplug it first");
    Err(Failure::new(Kind::Exists, message).with_field("name"))
}

/// Warns of a card whose TAP was deleted on the host.
pub(super) fn warn_of_deleted_tap(card: &InventoryNic, taps: &TapBackends) {
    let (name, state) = (card.name(), taps.state_of(card));
    if let (Some(name), TapState::Deleted) = (name, state) {
        tracing::warn!(
            "the TAP device of the card {name} was deleted on the host: unplug the card (nic del), because \
             a reset of the guest would end QEMU"
        );
    }
}
