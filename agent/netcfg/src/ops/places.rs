//! Which request configures the card at a place.
//!
//! A host's command that was killed leaves its request behind, which goes on waiting for its card. The
//! next command's may be at the same place with the same MAC: it would get the addresses of both. So
//! the request that came last has the place, and one that has lost it does and undoes nothing more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use patchbay_types::PciPath;

use super::Error;

/// The places where cards are being configured.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    /// Number of the last request.
    last: u64,
    by: BTreeMap<PciPath, u64>,
}

/// A place, as long as no later request takes it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    pub(super) path: &'a PciPath,
    number: u64,
}

impl Places {
    /// Takes the place from whoever has it.
    pub(super) fn take<'a>(&'a self, path: &'a PciPath) -> Place<'a> {
        let mut taken = self.lock();
        taken.last += 1;
        let number = taken.last;
        taken.by.insert(path.clone(), number);
        Place {
            places: self,
            path,
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// To be asked with the kernel locked, before something is changed.
    ///
    /// # Errors
    /// A later request has taken the place.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.is_ours(&self.places.lock()) {
            return Ok(());
        }
        let path = self.path.clone();
        Err(Error::Superseded { path })
    }

    fn is_ours(&self, taken: &Taken) -> bool {
        taken.by.get(self.path) == Some(&self.number)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if self.is_ours(&taken) {
            taken.by.remove(self.path);
        }
    }
}
