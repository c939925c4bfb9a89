//! Noticing Ctrl-C and SIGTERM between two steps, so that what was begun is undone.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// While it lives, this thread isn't ended by these signals but told of them.
#[derive(Debug)]
pub(super) struct Interrupts {
    signals: SignalFd,
    before: SigSet,
}

impl Interrupts {
    pub(super) fn hold() -> io::Result<Self> {
        let held = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        let before = SigSet::thread_get_mask()?;
        held.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&held, flags)?;
        Ok(Self { signals, before })
    }

    /// Sleeps; wakes early, and says so, when a signal comes.
    pub(super) fn interrupted_within(&self, duration: Duration) -> bool {
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(duration).unwrap_or(PollTimeout::ZERO);
        // A poll that fails reports nothing: the caller's deadline still holds.
        let _ = poll(&mut fds, timeout);
        matches!(self.signals.read_signal(), Ok(Some(_)))
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        // Setting back a mask that was valid before can't fail.
        let _ = self.before.thread_set_mask();
    }
}
