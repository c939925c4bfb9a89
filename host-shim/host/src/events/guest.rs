//! Events of a guest.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};

use super::{Closed, EventKind, Sender};
use crate::ops;
use crate::sandbox::Sandbox;

/// First pause between two attempts to reach the agent; each is twice as long as the one before, up to
/// [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Number of attempts that fail without a warning: a guest that starts has no agent at first.
const QUIET_ATTEMPTS: u32 = 5;

/// Listener to the agent of a sandbox.
pub(super) struct Listener {
    pub(super) sandbox: Sandbox,
    pub(super) sender: Sender,
    /// The sandbox has ended.
    pub(super) is_gone: Arc<AtomicBool>,
}

/// State of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No agent of patchbay has answered; Kata's can be there before it.
    Searching,
    /// It has answered.
    Found,
    /// It sends events.
    Connected,
}

impl Listener {
    /// Receives events until the sandbox has ended, or its agent can't send any.
    pub(super) fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        while !self.is_gone() {
            let mut stage = Stage::Searching;
            let failure = match self.listen(&mut stage) {
                Ok(Ok(())) => Failure::new(Kind::Other, "the agent has ended the stream"),
                Ok(Err(Closed)) => return,
                Err(failure) => failure,
            };
            if self.is_gone() {
                return;
            }
            let is_lasting = match failure.kind() {
                Kind::Unsupported => stage != Stage::Searching,
                kind => kind == Kind::Denied,
            };
            if stage == Stage::Connected {
                pause = FIRST_PAUSE;
                attempts = 0;
                let lost = EventKind::AgentDisconnected(failure.line());
                if self.sender.send(lost).is_err() {
                    return;
                }
            } else if is_lasting || attempts == QUIET_ATTEMPTS {
                let id = &self.sandbox.id;
                let line = failure.line();
                tracing::warn!("events of the guest of {id} are left out: {line}");
            }
            if is_lasting {
                return;
            }
            attempts += 1;
            thread::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    fn listen(&self, stage: &mut Stage) -> Result<Result<(), Closed>, Failure> {
        let agent = ops::connect(&self.sandbox)?.into_patchbay()?;
        *stage = Stage::Found;
        let mut sent = Ok(());
        agent.watch_events(&mut |events| {
            let is_new = *stage != Stage::Connected;
            *stage = Stage::Connected;
            let connected = is_new.then_some(EventKind::AgentConnected);
            let kinds = connected
                .into_iter()
                .chain(events.iter().cloned().map(EventKind::Guest));
            for kind in kinds.take_while(|_| !self.is_gone()) {
                sent = self.sender.send(kind);
                if sent.is_err() {
                    return ControlFlow::Break(());
                }
            }
            // Also after the empty messages of a guest without events.
            if self.is_gone() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(sent)
    }
}
