//! Settings of a card on the host.

use patchbay_types::AddressDetail;
use patchbay_types::failure::{Failure, Kind};

use super::cards::{self, Card, CardKey};
use super::connect_over;
use crate::card::{HostChange, HostSettings};
use crate::hotplug::{self, Inventory, LockedSandbox};
use crate::sandbox::{CardRecord, Sandbox};

/// Changes cable and bandwidth limits of a card, without its guest. Returns its settings.
///
/// # Errors
/// [`Kind::NotFound`] without the card, or if the journal has lost it; [`Kind::Invalid`] for a key that fits
/// several cards, and for a limit of a card without a TAP; failures of QEMU and the host's kernel.
pub fn set_on_host(
    sandbox: &Sandbox,
    key: &CardKey,
    change: HostChange,
) -> Result<HostSettings, Failure> {
    let mut locked = LockedSandbox::begin(sandbox)?;
    let nics = Inventory::read_nics(locked.qmp()?, CardRecord::DEVICE_PREFIX)?;
    let records = locked.records(&nics)?;
    let found = cards::find_to_unplug(cards::of_machine(&nics), key, |cards| {
        let agent = connect_over(locked.qmp()?, sandbox)?;
        let interfaces = agent.interfaces(AddressDetail::Listed)?;
        Ok(cards::with_guest(cards, &interfaces, agent, &records)?.0)
    })?;
    let Card { name, .. } = found.ok_or_else(|| key.not_found())?;
    let nic = nics.iter().find(|nic| nic.name() == Some(name.as_str()));
    let record = records.iter().find(|record| record.name == name);
    let Some((nic, record)) = nic.zip(record) else {
        let message = format!("the journal has lost the card {name}");
        let failure = Failure::new(Kind::NotFound, message);
        return Err(failure.with_cause("unplug it (nic del) and plug it again"));
    };
    hotplug::change_host(&mut locked, nic, record, change)
}
