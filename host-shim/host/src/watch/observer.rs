//! Receiver of the events of the service.

use std::time::Duration;

use patchbay_types::failure::Failure;

use super::Change;
use crate::sandbox::Sandbox;

/// Receiver of events, on the thread of the service.
pub trait Observer {
    /// Called when the service is ready, and when the number of sandboxes changes.
    fn watching(&mut self, sandboxes: usize);
    /// Called at least once in each [`Observer::interval`].
    fn alive(&mut self);
    /// Returns the interval of [`Observer::alive`]; `None` if the call is not needed.
    fn interval(&self) -> Option<Duration>;
    /// Called after changes of a sandbox.
    fn changed(&mut self, sandbox: &Sandbox, changes: &[Change]);
    /// Called with new failures: of a sandbox, or of finding sandboxes.
    fn failed(&mut self, sandbox: Option<&Sandbox>, failures: &[Failure]);
    /// Called when the service begins to stop.
    fn stopping(&mut self);
}
