//! SIGINT, SIGTERM and SIGHUP: the first one interrupts the command, the second one ends it at once.

use std::fmt;
use std::io::{self, Write};
use std::process;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use patchbay_host::interrupt::Interrupt;

use crate::output::print_error;

/// Signals of this process; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    pub(crate) interrupt: Interrupt,
    received: Arc<OnceLock<ReceivedSignal>>,
    stdout: Arc<Mutex<String>>,
    redirection: Arc<OnceLock<Redirection>>,
}

/// Functions of a command that handles the signals by itself.
pub(crate) struct Redirection {
    /// Handles the first SIGINT or SIGTERM.
    pub(crate) stop: Box<dyn Fn() + Send + Sync>,
    /// Handles SIGHUP; without it, SIGHUP stops the command too.
    pub(crate) reload: Option<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Redirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirection").finish_non_exhaustive()
    }
}

/// Signal that interrupts a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceivedSignal(Signal);

impl ReceivedSignal {
    /// Returns the exit code that shells use for a process that the signal has ended.
    pub(crate) fn exit_code(self) -> u8 {
        128 + self.0 as u8
    }
}

impl fmt::Display for ReceivedSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Signals {
    /// Starts to receive the signals on a thread. Call it before there are other threads: they inherit the
    /// signal mask. Signals that are ignored, as SIGHUP by `nohup`, stay so.
    pub(crate) fn watch(&self) -> io::Result<()> {
        let watched = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        watched.thread_block()?;
        let own = self.clone();
        let receive = move || {
            // Fails for invalid sets only.
            while let Ok(signal) = watched.wait() {
                own.handle(ReceivedSignal(signal));
            }
        };
        thread::Builder::new().spawn(receive).map(drop)
    }

    /// Returns the signal that interrupted the command. One that ends a service doesn't.
    pub(crate) fn received(&self) -> Option<ReceivedSignal> {
        let is_service = self.redirection.get().is_some_and(|to| to.reload.is_some());
        self.received.get().copied().filter(|_| !is_service)
    }

    /// Sets the text for standard output of a command that ends before it has changed anything.
    pub(crate) fn print_at_end(&self, text: impl Into<String>) {
        let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        *stdout = text.into();
    }

    /// Leaves the signals to a command, except for the second one that stops it.
    pub(crate) fn redirect(&self, to: Redirection) {
        // A command does that once.
        let _ = self.redirection.set(to);
    }

    fn handle(&self, signal: ReceivedSignal) {
        let redirection = self.redirection.get();
        if let Some(reload) = redirection.and_then(|to| to.reload.as_ref())
            && signal.0 == Signal::SIGHUP
        {
            return reload();
        }
        if self.received.set(signal).is_err() {
            print_error(&format!(
                "patchbay: ended by {signal}: the next command undoes what is unfinished\n"
            ));
            process::exit(signal.exit_code().into());
        }
        if let Some(redirection) = redirection {
            return (redirection.stop)();
        }
        let stdout = Arc::clone(&self.stdout);
        self.interrupt.request(move || {
            let stdout = stdout.lock().unwrap_or_else(PoisonError::into_inner);
            // Without the text no lock is needed, which a blocked write can hold.
            if !stdout.is_empty() {
                let _ = io::stdout().write_all(stdout.as_bytes());
            }
            print_error(&format!(
                "patchbay: interrupted by {signal}: nothing was changed\n"
            ));
            process::exit(signal.exit_code().into());
        });
    }
}
