//! Changes that wait for the kernel without the lock of their link.
//!
//! Another request can change the link meanwhile, for example after the command of the first was killed.
//! It undoes the waiting change before it makes its own, and the first finds its epoch over. Otherwise a
//! wait that fails would undo the later change.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use patchbay_types::{AdminState, Interface, LinkName};

use super::addresses::DadWait;
use super::configure::Change;
use super::{Error, Netcfg, Sockets};
use crate::device;
use crate::rtnl::link::{self, Link};

/// Maximum wait for the carrier of a card that was set up.
const CARRIER_TIMEOUT: Duration = Duration::from_secs(1);

/// Changes that wait, at most one per link.
#[derive(Debug, Default)]
pub(super) struct WaitingChanges(Mutex<Epochs>);

#[derive(Debug, Default)]
struct Epochs {
    last: u64,
    waiting: HashMap<u32, (u64, Change)>,
}

/// Time in which no other request changes a link.
#[derive(Debug)]
pub(super) struct Epoch {
    index: u32,
    number: u64,
    /// Name of the link in messages.
    name: LinkName,
}

impl WaitingChanges {
    /// Begins the epoch of a change whose link is locked.
    pub(super) fn begin(&self, change: Change) -> Epoch {
        let mut epochs = self.lock();
        epochs.last += 1;
        let (index, number, name) = (change.index, epochs.last, change.name.clone());
        epochs.waiting.insert(index, (number, change));
        Epoch {
            index,
            number,
            name,
        }
    }

    /// Ends the epoch of a change; `None` if another request has ended it.
    fn end(&self, epoch: &Epoch) -> Option<Change> {
        match self.lock().waiting.entry(epoch.index) {
            Entry::Occupied(waiting) if waiting.get().0 == epoch.number => Some(waiting.remove().1),
            _ => None,
        }
    }

    /// Ends the epoch of a locked link, and undoes its change.
    pub(super) fn undo(&self, sockets: &mut Sockets, index: u32) -> Result<(), Error> {
        let waiting = self.lock().waiting.remove(&index);
        waiting.map_or(Ok(()), |(_, change)| change.undo(sockets))
    }

    fn lock(&self) -> MutexGuard<'_, Epochs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Netcfg {
    /// Completes a change after its waits, or rolls it back. The sockets are those of its begin: a lack of
    /// descriptors must not prevent the rollback. `check` fails if another request has taken
    /// over.
    pub(super) fn finish(
        &self,
        sockets: &mut Sockets,
        epoch: &Epoch,
        waited: Result<(), Error>,
        check: impl Fn() -> Result<(), Error>,
    ) -> Result<Interface, Error> {
        let _busy = self.links.take(epoch.index);
        let change = self.waiting.end(epoch);
        check()?;
        let change = change.ok_or_else(|| Error::Overtaken(epoch.name.clone()))?;
        self.complete(sockets, change, waited)
    }

    /// The same while the link is locked.
    pub(super) fn complete(
        &self,
        sockets: &mut Sockets,
        mut change: Change,
        waited: Result<(), Error>,
    ) -> Result<Interface, Error> {
        match waited.and_then(|()| change.finish(sockets)) {
            Ok((link, addresses)) => Ok(self.interface(sockets, link, &addresses)),
            Err(error) => Err(change.roll_back(sockets, error)),
        }
    }
}

/// Waits for the carrier, because packets before it are dropped. The driver reports it a moment
/// after its probe. A card that stays without one isn't an error: its other end can be unplugged. One that is down
/// has none.
/// `IFF_RUNNING` isn't needed, and the kernel delays it by up to a second.
pub(super) fn wait_for_carrier(sockets: &mut Sockets, index: u32) -> Result<(), Error> {
    let deadline = Instant::now() + CARRIER_TIMEOUT;
    device::wait_until(deadline, &sockets.cancellation, || {
        let link = link::by_index(&mut sockets.route, index)?;
        let is_done = |link: Link| link.carrier || link.state == AdminState::Down;
        Ok::<_, Error>(link.is_none_or(is_done).then_some(()))
    })?;
    Ok(())
}

/// Waits for duplicate address detection, if it was requested.
pub(super) fn wait_for_dad(sockets: &mut Sockets, dad: Option<DadWait>) -> Result<(), Error> {
    dad.map_or(Ok(()), |dad| dad.wait(sockets))
}
