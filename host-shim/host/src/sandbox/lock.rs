//! Exclusive lock of a sandbox.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use patchbay_types::failure::{Failure, Kind};

use super::StateDir;

/// Longest wait for the lock; a change takes less even at its slowest.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Lock held while a sandbox is changed. The kernel releases it with the process.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held until it is dropped")] Flock<File>);

impl Lock {
    /// Waits for the sandbox's lock.
    ///
    /// # Errors
    /// [`Kind::Timeout`] if another change takes too long; [`Kind::NotFound`] if the sandbox ends
    /// meanwhile: the lock of a removed folder excludes nobody, and its journal is never read.
    pub(crate) fn take(state: &StateDir) -> Result<Self, Failure> {
        Self::take_within(state, LOCK_TIMEOUT)
    }

    /// Returns whether a process holds the sandbox's lock.
    pub(crate) fn is_held(state: &StateDir) -> bool {
        let file = File::open(state.path().join("lock"));
        let shared = file.map(|file| Flock::lock(file, FlockArg::LockSharedNonblock));
        matches!(shared, Ok(Err((_, Errno::EWOULDBLOCK))))
    }

    fn take_within(state: &StateDir, timeout: Duration) -> Result<Self, Failure> {
        let _phase = tracing::info_span!("lock").entered();
        let path = state.path().join("lock");
        let created = match state {
            StateDir::Registered(_) => Ok(()),
            StateDir::Unregistered(path) => fs::create_dir_all(path),
        };
        let lock = created.and_then(|()| {
            let lock = lock_file(open(&path)?, Instant::now() + timeout)?;
            if !is_at(&lock, &path)? {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(Self(lock))
        });
        lock.map_err(|error| {
            let message = format!("could not take the lock {}", path.display());
            match error.kind() {
                io::ErrorKind::NotFound => ended(),
                io::ErrorKind::TimedOut => {
                    Failure::new(Kind::Timeout, message).with_cause(format!(
                        "another patchbay has been changing this sandbox for more than {} s",
                        timeout.as_secs()
                    ))
                }
                _ => Failure::of_io(message, &error),
            }
        })
    }
}

fn ended() -> Failure {
    Failure::new(
        Kind::NotFound,
        "the sandbox ended before it could be changed",
    )
}

/// Opens the lock file with access for its owner only: reading access is enough to hold a lock.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).append(true).mode(0o600).open(path)
}

/// Polls, because flock has no timeout.
fn lock_file(mut file: File, deadline: Instant) -> io::Result<Flock<File>> {
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= deadline => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(errno.into()),
        };
        thread::sleep(RETRY_INTERVAL);
    }
}

/// Returns whether the path still names this file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (locked, named) = (file.metadata()?, fs::metadata(path)?);
    Ok((locked.dev(), locked.ino()) == (named.dev(), named.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until a second descriptor of this process has the lock file open.
    fn await_waiter(lock: &Path) {
        let has_lock = |fd: &io::Result<fs::DirEntry>| {
            fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|target| target == lock)
        };
        let opened = || {
            fs::read_dir("/proc/self/fd")
                .unwrap()
                .filter(has_lock)
                .count()
        };
        while opened() < 2 {
            thread::yield_now();
        }
    }

    /// Takes a held lock, which is released once `meanwhile` has changed the folder.
    fn take_after(meanwhile: impl FnOnce(&Path)) -> Result<Lock, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a");
        fs::create_dir(&folder).unwrap();
        let state = StateDir::Registered(folder.clone());
        let held = Lock::take(&state).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| Lock::take(&state));
            await_waiter(&folder.join("lock"));
            meanwhile(&folder);
            drop(held);
            waiter.join().unwrap()
        })
    }

    #[test]
    fn take_held_lock_times_out() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::Registered(dir.path().to_owned());
        assert!(!Lock::is_held(&state));
        let _held = Lock::take(&state).unwrap();
        assert!(Lock::is_held(&state));
        let begun = Instant::now();
        let timeout = Duration::from_millis(1100);
        let failure = Lock::take_within(&state, timeout).unwrap_err();
        assert!(begun.elapsed() >= timeout);
        assert_eq!(failure.kind(), Kind::Timeout);
        let message = format!("could not take the lock {}/lock", dir.path().display());
        assert_eq!(failure.to_string(), message);
        let cause = "another patchbay has been changing this sandbox for more than 1 s";
        assert_eq!(failure.chain().collect::<Vec<_>>(), [cause]);
    }

    #[test]
    fn take_waits_for_release() {
        take_after(|_| ()).unwrap();
    }

    #[test]
    fn take_lock_of_removed_folder_fails() {
        let failure = take_after(|folder| fs::remove_dir_all(folder).unwrap()).unwrap_err();
        assert_eq!(failure, ended());
    }

    #[test]
    fn take_lock_of_replaced_folder_fails() {
        let failure = take_after(|folder| {
            // Kept, so that the new file gets another inode.
            fs::rename(folder, folder.with_extension("old")).unwrap();
            fs::create_dir(folder).unwrap();
            drop(Lock::take(&StateDir::Registered(folder.to_owned())).unwrap());
        });
        assert_eq!(failure.unwrap_err(), ended());
    }

    #[test]
    fn take_creates_only_unregistered_folders() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a");
        let failure = Lock::take(&StateDir::Registered(folder.clone())).unwrap_err();
        assert_eq!(failure, ended());
        assert!(!folder.exists());
        Lock::take(&StateDir::Unregistered(folder.clone())).unwrap();
        assert!(folder.join("lock").is_file());
    }

    #[test]
    fn lock_file_is_private_to_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::Unregistered(dir.path().to_owned());
        Lock::take(&state).unwrap();
        let mode = fs::metadata(dir.path().join("lock")).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}
