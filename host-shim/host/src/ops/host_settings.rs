//! Settings of a card on the host.

use patchbay_types::failure::{Failure, Kind};

use super::cards::{Card, CardKey};
use super::{FoundCard, begin, find_locked};
use crate::card::{HostChange, HostSettings};
use crate::hotplug;
use crate::sandbox::Sandbox;

/// Changes cable, bandwidth limits and VLAN of a card, without its guest. Returns its settings.
///
/// # Errors
/// [`Kind::NotFound`] without the card, or if the journal has lost it; [`Kind::Invalid`] for a key that fits
/// several cards, a limit of a card without a TAP, and a VLAN of a TAP outside a bridge with VLANs; failures of QEMU
/// and the host's kernel.
pub fn set_on_host(
    sandbox: &Sandbox,
    key: &CardKey,
    change: HostChange,
) -> Result<HostSettings, Failure> {
    let mut locked = begin(sandbox)?;
    let FoundCard {
        nics,
        records,
        card,
    } = find_locked(&mut locked, key)?;
    let Card { name, .. } = card.ok_or_else(|| key.not_found())?;
    let nic = nics.iter().find(|nic| nic.name() == Some(name.as_str()));
    let record = records.iter().find(|record| record.name == name);
    let Some((nic, record)) = nic.zip(record) else {
        let message = format!("the journal has lost the card {name}");
        let failure = Failure::new(Kind::NotFound, message);
        return Err(failure.with_cause("unplug it (nic del) and plug it again"));
    };
    hotplug::change_host(&mut locked, nic, record, change)
}
