//! Claims of PCI paths by the requests that configure cards there.
//!
//! The request of a killed host command keeps waiting for its card. The next command can plug a card
//! with the same MAC at the same path, which would then get the addresses of both. So the latest
//! request owns the path; a superseded one stops and must not roll anything back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use patchbay_types::PciPath;

use super::Error;

/// Tokens of the requests that own PCI paths.
type Owners = BTreeMap<PciPath, Arc<()>>;

/// PCI paths of the cards that are being configured.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<Owners>);

/// Claim of a PCI path, until a later request takes it over.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    pub(super) path: &'a PciPath,
    token: Arc<()>,
}

impl Claims {
    /// Claims a path and supersedes its current owner.
    pub(super) fn claim<'a>(&'a self, path: &'a PciPath) -> Claim<'a> {
        let (claims, token) = (self, Arc::default());
        self.lock().insert(path.clone(), Arc::clone(&token));
        Claim {
            claims,
            path,
            token,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Owners> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim<'_> {
    /// Checks that this request still owns the path. Call it with the sockets locked, before each
    /// change.
    ///
    /// # Errors
    /// Fails if a later request has claimed the path.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.is_owner(&self.claims.lock()) {
            return Ok(());
        }
        Err(Error::Superseded(self.path.clone()))
    }

    fn is_owner(&self, owners: &Owners) -> bool {
        let owner = owners.get(self.path);
        owner.is_some_and(|owner| Arc::ptr_eq(owner, &self.token))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut owners = self.claims.lock();
        if self.is_owner(&owners) {
            owners.remove(self.path);
        }
    }
}
