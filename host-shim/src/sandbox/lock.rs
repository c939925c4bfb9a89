//! One change at a time per sandbox.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use patchbay_protocols::failure::{Failure, Kind};

use super::files::io_failure;

/// Longest wait for another change to end: longer than one takes at its worst.
const PATIENCE: Duration = Duration::from_secs(120);

/// Held while the sandbox is changed; the kernel lets go of it whatever becomes of the process.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code)] Flock<File>);

impl Lock {
    /// Waits for the lock in the sandbox's state directory, which is made if need be.
    pub(crate) fn take(state: &Path) -> Result<Self, Failure> {
        let _phase = tracing::info_span!("lock").entered();
        let path = state.join("lock");
        let sentence = || format!("could not take the lock {}", path.display());
        let file = fs::create_dir_all(state)
            .and_then(|()| File::options().create(true).append(true).open(&path))
            .map_err(|error| io_failure(sentence(), &error))?;
        // flock has no timeout: a thread waits, and is left behind if it waits too long.
        let (send, receive) = mpsc::channel();
        thread::spawn(move || send.send(take(file)));
        match receive.recv_timeout(PATIENCE) {
            Ok(Ok(lock)) => Ok(Self(lock)),
            Ok(Err(errno)) => Err(io_failure(sentence(), &errno.into())),
            Err(_) => Err(Failure::new(Kind::Timeout, sentence()).with_cause(format!(
                "another patchbay has changed this sandbox for more than {} s",
                PATIENCE.as_secs()
            ))),
        }
    }
}

fn take(file: File) -> Result<Flock<File>, Errno> {
    match Flock::lock(file, FlockArg::LockExclusive) {
        Ok(lock) => Ok(lock),
        Err((file, Errno::EINTR)) => take(file),
        Err((_, errno)) => Err(errno),
    }
}
