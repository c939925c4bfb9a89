//! Catches SIGINT, SIGTERM and SIGHUP between two steps of a start, which is then undone.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Blocks the signals in this thread and receives them from a descriptor, until dropped.
#[derive(Debug)]
pub(super) struct Interrupts {
    signals: SignalFd,
    saved_mask: SigSet,
}

impl Interrupts {
    pub(super) fn hold() -> io::Result<Self> {
        let held = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        let saved_mask = SigSet::thread_get_mask()?;
        held.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&held, flags)?;
        Ok(Self {
            signals,
            saved_mask,
        })
    }

    /// Sleeps for at most `duration`; returns whether a signal has arrived.
    pub(super) fn interrupted_within(&self, duration: Duration) -> bool {
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(duration).unwrap_or(PollTimeout::ZERO);
        // A failed poll counts as no signal; the caller has a deadline.
        let _ = poll(&mut fds, timeout);
        matches!(self.signals.read_signal(), Ok(Some(_)))
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        // Fails for invalid masks only, and this one was valid.
        let _ = self.saved_mask.thread_set_mask();
    }
}
