//! One change at a time per sandbox.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use patchbay_types::failure::{Failure, Kind};

use super::StateDir;
use super::files::io_failure;

/// Longest wait for another change to end: longer than one takes at its worst.
const PATIENCE: Duration = Duration::from_secs(120);

/// Held while the sandbox is changed; the kernel lets go of it whatever becomes of the process.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] Flock<File>);

impl Lock {
    /// Waits for the sandbox's lock.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the sandbox ends meanwhile: the lock of a folder that was removed is
    /// nobody else's, and what would be written there nobody reads.
    pub fn take(state: &StateDir) -> Result<Self, Failure> {
        let _phase = tracing::info_span!("lock").entered();
        let path = state.path().join("lock");
        let failed = |error: &io::Error| match error.kind() {
            io::ErrorKind::NotFound => ended(),
            _ => io_failure(format!("could not take the lock {}", path.display()), error),
        };
        let file = state.make().and_then(|()| open(&path));
        let file = file.map_err(|error| failed(&error))?;
        // flock has no timeout: a thread waits, and is left behind if it waits too long.
        let (send, receive) = mpsc::channel();
        thread::spawn(move || send.send(wait(file)));
        let lock = match receive.recv_timeout(PATIENCE) {
            Ok(Ok(lock)) => lock,
            Ok(Err(errno)) => return Err(failed(&errno.into())),
            Err(_) => {
                let sentence = format!("could not take the lock {}", path.display());
                return Err(Failure::new(Kind::Timeout, sentence).with_cause(format!(
                    "another patchbay has changed this sandbox for more than {} s",
                    PATIENCE.as_secs()
                )));
            }
        };
        match is_at(&lock, &path) {
            Ok(true) => Ok(Self(lock)),
            Ok(false) => Err(ended()),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn ended() -> Failure {
    Failure::new(
        Kind::NotFound,
        "the sandbox ended before it could be changed",
    )
}

/// Nobody else's: who may open it, if only to read it, may lock it for as long as he likes.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).append(true).mode(0o600).open(path)
}

fn wait(file: File) -> Result<Flock<File>, Errno> {
    match Flock::lock(file, FlockArg::LockExclusive) {
        Ok(lock) => Ok(lock),
        Err((file, Errno::EINTR)) => wait(file),
        Err((_, errno)) => Err(errno),
    }
}

/// Whether the file is still the one with this path.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until a thread of ours waits for a lock, as the kernel lists it.
    fn until_one_waits() {
        let waits = || {
            let locks = fs::read_to_string("/proc/locks").unwrap();
            let ours = format!(" {} ", std::process::id());
            locks
                .lines()
                .any(|line| line.contains("-> FLOCK") && line.contains(&ours))
        };
        while !waits() {
            thread::yield_now();
        }
    }

    /// What a waiter gets when this was done to the folder before its turn came.
    fn waited(meanwhile: impl FnOnce(&Path)) -> Result<Lock, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a");
        fs::create_dir(&folder).unwrap();
        let state = StateDir::Registered(folder.clone());
        let held = Lock::take(&state).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| Lock::take(&state));
            until_one_waits();
            meanwhile(&folder);
            drop(held);
            waiter.join().unwrap()
        })
    }

    #[test]
    fn a_waiter_gets_its_turn() {
        waited(|_| ()).unwrap();
    }

    #[test]
    fn a_waiter_does_not_take_the_lock_of_a_sandbox_that_ended() {
        let failure = waited(|folder| fs::remove_dir_all(folder).unwrap()).unwrap_err();
        assert_eq!(failure, ended());
    }

    #[test]
    fn a_waiter_does_not_take_an_old_lock_for_that_of_a_new_sandbox() {
        let failure = waited(|folder| {
            // Kept, so that the new file gets another inode.
            fs::rename(folder, folder.with_extension("old")).unwrap();
            fs::create_dir(folder).unwrap();
            drop(Lock::take(&StateDir::Registered(folder.to_owned())).unwrap());
        });
        assert_eq!(failure.unwrap_err(), ended());
    }

    #[test]
    fn the_folder_of_a_registered_sandbox_is_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a");
        let failure = Lock::take(&StateDir::Registered(folder.clone())).unwrap_err();
        assert_eq!(failure, ended());
        assert!(!folder.exists());
        Lock::take(&StateDir::Unregistered(folder.clone())).unwrap();
        assert!(folder.join("lock").is_file());
    }

    #[test]
    fn nobody_else_can_take_a_lock() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::Unregistered(dir.path().to_owned());
        Lock::take(&state).unwrap();
        let mode = fs::metadata(dir.path().join("lock")).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}
