//! Request to stop, which interrupts the changes that are running.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::interrupt::Interrupt;

/// Request to stop; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_requested: bool,
    running: HashMap<u64, Interrupt>,
    next: u64,
}

impl Stop {
    /// Interrupts the running changes: each is undone, or completed if it can't be undone. No other
    /// begins.
    pub fn request(&self) {
        let mut state = self.state();
        state.is_requested = true;
        for interrupt in state.running.values() {
            // The process waits for them.
            interrupt.request(|| {});
        }
    }

    /// Returns whether the stop is requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.state().is_requested
    }

    /// Begins a change; `None` after the request.
    pub(super) fn begin(&self) -> Option<Running<'_>> {
        let mut state = self.state();
        if state.is_requested {
            return None;
        }
        let (key, interrupt) = (state.next, Interrupt::default());
        state.next += 1;
        state.running.insert(key, interrupt.clone());
        Some(Running {
            stop: self,
            key,
            interrupt,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Change that is running until the value is dropped.
#[derive(Debug)]
pub(super) struct Running<'a> {
    stop: &'a Stop,
    key: u64,
    interrupt: Interrupt,
}

impl Running<'_> {
    /// Returns the interruption of the change.
    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.stop.state().running.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_interrupts_running_changes_and_prevents_others() {
        let stop = Stop::default();
        let running = stop.begin().unwrap();
        drop(stop.begin().unwrap());
        assert_eq!(stop.state().running.len(), 1);
        running.interrupt().begin_change().unwrap();
        stop.request();
        assert!(running.interrupt().check().is_err());
        assert!(stop.begin().is_none());
        assert!(stop.is_requested());
    }
}
