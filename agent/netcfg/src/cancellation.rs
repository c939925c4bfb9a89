//! Cancellation of an operation by the host (docs/decisions/0017).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use patchbay_types::failure::{Failure, Kind};

/// Request to stop an operation and to undo what it has changed; clones share it.
///
/// Only steps that the undo covers check it, so neither a rollback nor the restoration of lost routes
/// is cancelled.
#[derive(Debug, Clone, Default)]
pub struct Cancellation(Arc<AtomicBool>);

/// The host has cancelled the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host has cancelled the request")]
pub struct Cancelled;

impl From<Cancelled> for Failure {
    /// The host recognizes it by its errno.
    fn from(cancelled: Cancelled) -> Self {
        Self::of(Kind::Other, &cancelled).with_errno(Errno::ECANCELED as i32)
    }
}

impl Cancellation {
    /// Requests the cancellation.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether it was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The cancellation, if it was requested.
    pub(crate) fn check(&self) -> Result<(), Cancelled> {
        if self.is_requested() {
            Err(Cancelled)
        } else {
            Ok(())
        }
    }
}
