//! Exclusive locks of files, with a timeout.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

const FIRST_INTERVAL: Duration = Duration::from_millis(1);
const LAST_INTERVAL: Duration = Duration::from_millis(10);

/// Locks a file; the kernel releases it with the process. Polls, because `flock` has no timeout: `wait`
/// sleeps for an interval after each attempt that finds another holder of the file, or ends the wait.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] if another process still has the lock after `timeout`,
/// [`io::ErrorKind::Interrupted`] if `wait` ends it; those of the kernel.
pub fn take(
    mut file: File,
    timeout: Duration,
    mut wait: impl FnMut(&File, Duration) -> ControlFlow<()>,
) -> io::Result<Flock<File>> {
    let deadline = Instant::now() + timeout;
    let mut interval = FIRST_INTERVAL;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= deadline => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(errno.into()),
        };
        if wait(&file, interval).is_break() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        interval = (interval * 2).min(LAST_INTERVAL);
    }
}

/// Sleeps; for processes that end at a signal.
pub fn sleep(_: &File, interval: Duration) -> ControlFlow<()> {
    thread::sleep(interval);
    ControlFlow::Continue(())
}
