//! Exclusive lock of a machine.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::text::escape_controls;

use super::files;
use super::machine::StateDir;
use crate::file_lock;
use crate::private;

/// Longest wait for the lock; a change takes less even at its slowest.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);
/// Wait after which a warning names the process that has the lock.
const SILENT_WAIT: Duration = Duration::from_secs(1);

/// Lock held while a machine is changed. The kernel releases it with the process.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held until it is dropped")] Flock<File>);

impl Lock {
    /// Waits for the machine's lock.
    ///
    /// # Errors
    /// [`Kind::Timeout`] if another change takes too long; [`Kind::NotFound`] if the machine ends
    /// meanwhile: the monitor's path can lead to another machine by now.
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
        let deadline = Instant::now() + timeout;
        let lock = loop {
            let created = private::create_folder(state.path(), private::LISTED);
            files::check_trusted(state.path())?;
            let locked = created
                .and_then(|()| {
                    let left = deadline.saturating_duration_since(Instant::now());
                    lock_file(private::open_lock(&path)?, left)
                })
                .and_then(|lock| Ok(is_at(&lock, &path)?.then_some(lock)));
            if !state.is_current() {
                return Err(ended());
            }
            match locked {
                Ok(Some(lock)) => break lock,
                // The folder was collected meanwhile, as that of a machine that had ended.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(not_taken(&path, &error, timeout)),
            }
        };
        Ok(Self(lock))
    }

    /// Takes the lock of a machine if it has ended and no other process has the lock.
    pub(crate) fn take_ended(state: &StateDir) -> Option<Self> {
        if !state.has_ended() {
            return None;
        }
        let path = state.path().join("lock");
        let lock = Flock::lock(
            private::open_lock(&path).ok()?,
            FlockArg::LockExclusiveNonblock,
        )
        .ok()?;
        // Another machine can have the folder by now.
        let is_ended = is_at(&lock, &path).unwrap_or(false) && state.has_ended();
        is_ended.then_some(Self(lock))
    }
}

fn not_taken(path: &Path, error: &io::Error, timeout: Duration) -> Failure {
    let message = format!("could not take the lock {}", path.display());
    match error.kind() {
        io::ErrorKind::TimedOut => {
            let holder = File::open(path).map_or_else(|_| OTHER.to_owned(), |file| holder(&file));
            let cause = format!(
                "{holder} has been changing this sandbox for more than {} s",
                timeout.as_secs()
            );
            Failure::new(Kind::Timeout, message).with_cause(cause)
        }
        _ => Failure::of_io(message, error),
    }
}

fn ended() -> Failure {
    Failure::new(
        Kind::NotFound,
        "the sandbox ended before it could be changed",
    )
}

/// Warns once of the process that has the lock.
fn lock_file(file: File, timeout: Duration) -> io::Result<Flock<File>> {
    let mut silent_until = Some(Instant::now() + SILENT_WAIT);
    file_lock::take(file, timeout, |file, interval| {
        let is_over = |until: &mut Instant| Instant::now() >= *until;
        if silent_until.take_if(is_over).is_some() {
            let holder = holder(file);
            tracing::warn!("waiting for {holder}, which is changing this sandbox");
        }
        file_lock::sleep(file, interval)
    })
}

/// Holder that is not known.
const OTHER: &str = "another process";

/// Describes the process that has the lock of a file.
fn holder(file: &File) -> String {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let pid = file.metadata().ok().and_then(|own| pid_of(&locks, &own));
    let Some(pid) = pid else {
        return OTHER.to_owned();
    };
    // Empty if the process has ended meanwhile.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} ({})", escape_controls(name.trim_end()))
}

/// Finds the process with a lock in `/proc/locks`, whose lines are
/// `1: FLOCK  ADVISORY  WRITE 708 00:1a:1402 0 EOF`: process, device (two hexadecimal numbers) and inode.
/// Those that wait for the lock have `->` after the number.
fn pid_of(locks: &str, file: &fs::Metadata) -> Option<u32> {
    let (major, minor) = (stat::major(file.dev()), stat::minor(file.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let mut held = locks.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, at, ..] = words[..] else {
            return None;
        };
        (at == place).then(|| pid.parse().ok())?
    });
    // In another PID namespace, the process has the id 0.
    held.find(|pid| *pid != 0)
}

/// Returns whether the path still names this file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (locked, named) = (file.metadata()?, fs::metadata(path)?);
    Ok((locked.dev(), locked.ino()) == (named.dev(), named.ino()))
}

#[cfg(test)]
mod tests {
    use std::thread;

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

    /// Returns a temporary folder with the file of a monitor's socket, and the machine's state.
    fn machine() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let monitor = dir.path().join("qmp.sock");
        fs::write(&monitor, "").unwrap();
        let state = StateDir::of(dir.path(), &monitor).unwrap();
        (dir, state)
    }

    /// Takes a held lock, which is released once `meanwhile` has changed the folder or the socket.
    fn take_after(meanwhile: impl FnOnce(&Path, &StateDir)) -> Result<Lock, Failure> {
        let (dir, state) = machine();
        let held = Lock::take(&state).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| Lock::take(&state));
            await_waiter(&state.path().join("lock"));
            meanwhile(&dir.path().join("qmp.sock"), &state);
            drop(held);
            waiter.join().unwrap()
        })
    }

    #[test]
    fn take_held_lock_times_out() {
        let (_dir, state) = machine();
        assert!(!Lock::is_held(&state));
        let _held = Lock::take(&state).unwrap();
        assert!(Lock::is_held(&state));
        let begun = Instant::now();
        let timeout = Duration::from_millis(1100);
        let failure = Lock::take_within(&state, timeout).unwrap_err();
        assert!(begun.elapsed() >= timeout);
        assert_eq!(failure.kind(), Kind::Timeout);
        let message = format!("could not take the lock {}/lock", state.path().display());
        assert_eq!(failure.to_string(), message);
        let cause: String = failure.chain().collect();
        let holder = format!("process {} (", std::process::id());
        assert!(cause.starts_with(&holder), "{cause}");
        assert!(cause.ends_with("for more than 1 s"), "{cause}");
    }

    #[test]
    fn holder_of_held_lock_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let file = private::open_lock(&path).unwrap();
        assert_eq!(holder(&file), OTHER);
        let _held = lock_file(private::open_lock(&path).unwrap(), Duration::ZERO).unwrap();
        let own = format!("process {} (", std::process::id());
        assert!(holder(&file).starts_with(&own), "{}", holder(&file));
    }

    #[test]
    fn take_waits_for_release() {
        take_after(|_, _| ()).unwrap();
    }

    #[test]
    fn take_lock_of_ended_machine_fails() {
        let failure = take_after(|monitor, _| fs::remove_file(monitor).unwrap()).unwrap_err();
        assert_eq!(failure, ended());
    }

    #[test]
    fn take_lock_of_replaced_machine_fails() {
        let failure = take_after(|monitor, _| {
            // Kept, so that the new file gets another inode.
            fs::rename(monitor, monitor.with_extension("old")).unwrap();
            fs::write(monitor, "").unwrap();
        });
        assert_eq!(failure.unwrap_err(), ended());
    }

    #[test]
    fn take_creates_removed_folder_again() {
        let lock = take_after(|_, state| fs::remove_dir_all(state.path()).unwrap());
        lock.unwrap();
    }

    #[test]
    fn take_ended_needs_ended_machine_and_free_lock() {
        let (dir, state) = machine();
        let held = Lock::take(&state).unwrap();
        state.describe(None).unwrap();
        assert!(Lock::take_ended(&state).is_none(), "the machine runs");
        fs::remove_file(dir.path().join("qmp.sock")).unwrap();
        assert!(Lock::take_ended(&state).is_none(), "the lock is held");
        drop(held);
        assert!(Lock::take_ended(&state).is_some());
        fs::remove_dir_all(state.path()).unwrap();
        assert!(Lock::take_ended(&state).is_none(), "there is no folder");
    }

    #[test]
    fn lock_file_is_private_to_its_owner() {
        let (_dir, state) = machine();
        Lock::take(&state).unwrap();
        let mode = fs::metadata(state.path().join("lock")).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}
