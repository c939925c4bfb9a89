//! Interruption of a process while it works on a sandbox.
//!
//! A process that has changed nothing yet ends at once. Later, the next wait that can be given up fails,
//! or the agent cancels the change that it carries out, and what was begun is undone as after any other
//! failure. Other changes complete.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patchbay_types::failure::{Failure, Kind};
use tokio::sync::watch;

/// Interruption that can be requested; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<watch::Sender<State>>);

#[derive(Default)]
struct State {
    progress: Progress,
    /// Number of moments in which the process must not end.
    holds: u32,
    /// Number of changes that are being completed.
    completions: u32,
    request: Request,
    /// Ends the process.
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Progress {
    #[default]
    Unchanged,
    /// A change has begun.
    Changing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Request {
    #[default]
    None,
    Pending(Instant),
    /// A wait has failed for it. Undoing must not fail, too.
    Taken,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("progress", &self.progress)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl State {
    fn is_pending(&self) -> bool {
        matches!(self.request, Request::Pending(_)) && self.completions == 0
    }

    /// Takes a pending request.
    fn take(&mut self) -> bool {
        let is_pending = self.is_pending();
        if is_pending {
            self.request = Request::Taken;
        }
        is_pending
    }

    /// Returns whether the process ends once nothing holds it.
    fn is_ending(&self) -> bool {
        self.progress == Progress::Unchanged && self.end.is_some()
    }

    /// Ends the process if that is due. No change can begin meanwhile, since it needs the state.
    fn end_if_unchanged(&mut self) {
        if self.is_ending()
            && self.holds == 0
            && let Some(end) = self.end.take()
        {
            end();
        }
    }
}

impl Interrupt {
    /// Requests the interruption. `end`, which ends the process, is called unless a change has begun.
    pub fn request(&self, end: impl FnOnce() + Send + Sync + 'static) {
        self.0.send_modify(|state| {
            state.request = Request::Pending(Instant::now());
            state.end = Some(Box::new(end));
            state.end_if_unchanged();
        });
    }

    /// Marks the begin of a change: from now on, a request doesn't end the process.
    ///
    /// # Errors
    /// As for [`Interrupt::check`].
    pub(crate) fn begin_change(&self) -> Result<(), Failure> {
        self.0.send_modify(|state| {
            if state.progress == Progress::Unchanged {
                state.progress = Progress::Changing;
            }
        });
        self.check()
    }

    /// Defers requests until the value is dropped: the rest of a change that nothing undoes is completed.
    pub(crate) fn complete(&self) -> Completion<'_> {
        self.0.send_modify(|state| state.completions += 1);
        Completion(self)
    }

    /// Takes note that the change that a request was taken for is complete nevertheless: the next check
    /// fails instead.
    pub(crate) fn postpone(&self) {
        self.0.send_if_modified(|state| {
            let is_taken = state.request == Request::Taken;
            if is_taken {
                state.request = Request::Pending(Instant::now());
            }
            is_taken
        });
    }

    /// Keeps the process alive until the value is dropped.
    ///
    /// # Errors
    /// The interruption, if the process ends once other holds are dropped: threads that hold it in turn would
    /// keep it alive.
    pub(crate) fn hold(&self) -> Result<Hold<'_>, Failure> {
        let mut is_ending = false;
        self.0.send_if_modified(|state| {
            is_ending = state.is_ending();
            state.holds += u32::from(!is_ending);
            !is_ending
        });
        if is_ending {
            return Err(stopped());
        }
        Ok(Hold(self))
    }

    /// # Errors
    /// The interruption, if it was requested. Later calls succeed, as the undo needs them.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let mut is_taken = false;
        self.0.send_if_modified(|state| {
            is_taken = state.take();
            is_taken
        });
        if is_taken { Err(stopped()) } else { Ok(()) }
    }

    /// Waits for a request and returns the failure for it.
    pub(crate) async fn requested(&self) -> Failure {
        let mut state = self.0.subscribe();
        // Fails only without a sender.
        let _ = state.wait_for(State::is_pending).await;
        self.0.send_modify(|state| {
            state.take();
        });
        stopped()
    }

    /// Returns the deadline of a wait that continues for `grace` after a request, unless it is deferred.
    pub(crate) fn limit(&self, deadline: Instant, grace: Duration) -> Instant {
        let state = self.0.borrow();
        match state.request {
            Request::Pending(since) if state.completions == 0 => deadline.min(since + grace),
            Request::None | Request::Pending(_) | Request::Taken => deadline,
        }
    }

    /// Returns whether a wait has failed for a request.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.borrow().request == Request::Taken
    }
}

/// Moment in which the process must not end.
#[derive(Debug)]
pub(crate) struct Hold<'a>(&'a Interrupt);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| {
            state.holds -= 1;
            state.end_if_unchanged();
        });
    }
}

/// Change that is completed in spite of requests.
#[derive(Debug)]
#[must_use]
pub(crate) struct Completion<'a>(&'a Interrupt);

impl Drop for Completion<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.completions -= 1);
    }
}

fn stopped() -> Failure {
    Failure::new(Kind::Other, "the command was stopped")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Requests an interruption; returns whether the process would have ended.
    fn request(interrupt: &Interrupt) -> Arc<AtomicBool> {
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&has_ended);
        interrupt.request(move || ended.store(true, Ordering::SeqCst));
        has_ended
    }

    #[test]
    fn request_before_a_change_ends_the_process() {
        let interrupt = Interrupt::default();
        assert!(request(&interrupt).load(Ordering::SeqCst));
    }

    #[test]
    fn request_during_hold_ends_the_process_after_it() {
        let interrupt = Interrupt::default();
        let hold = interrupt.hold().unwrap();
        let has_ended = request(&interrupt);
        assert!(!has_ended.load(Ordering::SeqCst));
        assert_eq!(interrupt.hold().unwrap_err(), stopped());
        drop(hold);
        assert!(has_ended.load(Ordering::SeqCst));
    }

    #[test]
    fn request_during_change_fails_one_check() {
        let interrupt = Interrupt::default();
        interrupt.begin_change().unwrap();
        let has_ended = request(&interrupt);
        drop(interrupt.hold().unwrap());
        assert!(!has_ended.load(Ordering::SeqCst));
        let now = Instant::now();
        assert!(interrupt.limit(now + Duration::from_secs(60), Duration::ZERO) <= now);
        assert!(!interrupt.is_taken());
        assert_eq!(interrupt.check(), Err(stopped()));
        assert!(interrupt.is_taken());
        assert_eq!(interrupt.check(), Ok(()));
    }

    #[test]
    fn request_during_completion_is_deferred() {
        let interrupt = Interrupt::default();
        interrupt.begin_change().unwrap();
        let outer = interrupt.complete();
        let inner = interrupt.complete();
        let has_ended = request(&interrupt);
        assert_eq!(interrupt.begin_change(), Ok(()));
        drop(inner);
        assert_eq!(interrupt.check(), Ok(()));
        let deadline = Instant::now() + Duration::from_secs(60);
        assert_eq!(interrupt.limit(deadline, Duration::ZERO), deadline);
        assert!(!has_ended.load(Ordering::SeqCst));
        assert!(!interrupt.is_taken());
        drop(outer);
        assert_eq!(interrupt.check(), Err(stopped()));
    }

    #[test]
    fn request_postponed_fails_the_next_check() {
        let interrupt = Interrupt::default();
        interrupt.postpone();
        assert_eq!(interrupt.begin_change(), Ok(()));
        request(&interrupt);
        assert_eq!(interrupt.check(), Err(stopped()));
        interrupt.postpone();
        assert_eq!(interrupt.check(), Err(stopped()));
        assert_eq!(interrupt.check(), Ok(()));
    }
}
