//! Threads of a host that can have none left, where the functions of the standard library panic.

use std::thread::{Builder, Scope, ScopedJoinHandle};

use patchbay_types::failure::Failure;

/// Starts a thread of a scope.
///
/// # Errors
/// The host has no thread left.
pub(crate) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, Failure> {
    let started = Builder::new().spawn_scoped(scope, work);
    started.map_err(|error| Failure::of_io("could not start a thread", &error))
}
