//! Release of a card that is unplugged.

use std::time::Instant;

use patchbay_types::{PciPath, SlotPower};

use super::{Error, Netcfg};
use crate::device;

impl Netcfg {
    /// Waits until the card at `path`, which is unplugged, is gone.
    ///
    /// # Errors
    /// Fails if the card is there at the deadline, or if its slot can't be powered off.
    pub fn release(
        &self,
        path: &PciPath,
        power: SlotPower,
        deadline: Instant,
    ) -> Result<(), Error> {
        if power == SlotPower::Off {
            let off = self.sysfs.power_off(path);
            off.map_err(|source| Error::Slot {
                path: path.clone(),
                source,
            })?;
        }
        let is_gone = || Ok::<_, Error>((!self.sysfs.has_device(path)).then_some(()));
        let gone = device::wait_until(deadline, &self.cancellation, is_gone)?;
        gone.ok_or_else(|| Error::NotReleased(path.clone()))
    }
}
