//! Second monitor of Kata's machines: `.kata/ID/qmp.sock` in the run directory.
//!
//! `patchbay-qemu` creates the folder and becomes the QEMU that serves the socket, so the process that
//! the folder records is QEMU itself. The socket remains if QEMU is killed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::Flock;
use patchbay_types::failure::{Failure, Kind};

use super::files;
use super::id::SandboxId;
use crate::file_lock;
use crate::private::{self, remove as remove_file};
use crate::process::Process;
use crate::vsock_stream::{self, MAX_PATH_BYTES};

/// Folder in the run directory; release 0.1.0 kept its journals of Kata's machines there.
pub(super) const FOLDER: &str = ".kata";
const SOCKET: &str = "qmp.sock";
const PROCESS: &str = "qemu.json";

/// Longest wait for the lock of [`FOLDER`].
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns the path of the socket in the folder of a machine.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

/// Creates the folder for the second monitor of a machine whose QEMU this process becomes, and returns
/// the path of its socket.
///
/// # Errors
/// [`Kind::Exists`] if a machine with this id runs, [`Kind::Unsupported`] if the path is too long for a
/// socket; failures of the file system.
pub fn prepare(run_dir: &Path, id: &SandboxId) -> Result<PathBuf, Failure> {
    let parent = run_dir.join(FOLDER);
    let folder = parent.join(id.as_str());
    let socket = socket(&folder);
    if socket.as_os_str().len() > MAX_PATH_BYTES {
        let message = format!("{} is too long for a socket", socket.display());
        return Err(Failure::new(Kind::Unsupported, message));
    }
    let create = || -> io::Result<Flock<File>> {
        private::create_folder(&parent, private::OWN)?;
        let lock = lock(&parent)?;
        private::create_folder(&folder, private::OWN)?;
        Ok(lock)
    };
    let failed = |error| Failure::of_io(format!("could not create {}", folder.display()), &error);
    let _lock = create().map_err(failed)?;
    if is_alive(&folder) {
        let message = format!("a machine of sandbox {id} runs already");
        return Err(Failure::new(Kind::Exists, message));
    }
    let process = Process::current().ok_or_else(|| {
        let message = "could not identify this process: /proc is not mounted";
        Failure::new(Kind::Unsupported, message)
    })?;
    let record = || -> io::Result<()> {
        remove_file(&socket)?;
        private::replace(&folder.join(PROCESS), &serde_json::to_vec(&process)?)
    };
    record().map_err(failed)?;
    Ok(socket)
}

/// Removes the folders of machines that have ended. A later call repeats what fails.
pub(crate) fn collect(run_dir: &Path) {
    let parent = run_dir.join(FOLDER);
    for id in files::ids(&parent).unwrap_or_default() {
        let folder = parent.join(id.as_str());
        // Without the record the folder is being created, or belongs to release 0.1.0.
        if recorded(&folder).is_none() {
            continue;
        }
        let Ok(_lock) = lock(&parent) else { return };
        if !is_alive(&folder) {
            let _ = remove_file(&socket(&folder))
                .and_then(|()| remove_file(&folder.join(PROCESS)))
                .and_then(|()| fs::remove_dir(&folder));
        }
    }
}

/// Returns whether the machine of a folder runs. The process that the folder records ends early where
/// QEMU puts itself into the background, as under Kata 2.
fn is_alive(folder: &Path) -> bool {
    recorded(folder).is_some_and(|process| process.is_alive())
        || !vsock_stream::is_closed(&socket(folder))
}

fn recorded(folder: &Path) -> Option<Process> {
    files::json(&folder.join(PROCESS)).ok()
}

/// Locks the folder against another process that creates or removes folders in it. Another holder
/// works for microseconds, and a pod must not wait for one that hangs.
fn lock(parent: &Path) -> io::Result<Flock<File>> {
    file_lock::take(File::open(parent)?, LOCK_TIMEOUT, file_lock::sleep)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn id() -> SandboxId {
        "6ec7".parse().unwrap()
    }

    /// Records a process that has ended.
    fn end(socket: &Path) {
        let ended = Process {
            start_time: 0,
            ..Process::current().unwrap()
        };
        let record = serde_json::to_vec(&ended).unwrap();
        fs::write(socket.parent().unwrap().join(PROCESS), record).unwrap();
    }

    #[test]
    fn prepare_creates_private_folder() {
        let dir = tempfile::tempdir().unwrap();
        let socket = prepare(dir.path(), &id()).unwrap();
        assert_eq!(socket, dir.path().join(".kata/6ec7/qmp.sock"));
        let folder = fs::metadata(socket.parent().unwrap()).unwrap();
        assert_eq!(folder.mode() & 0o777, 0o700);
        assert_eq!(recorded(socket.parent().unwrap()), Process::current());
    }

    #[test]
    fn prepare_replaces_socket_of_ended_machine_only() {
        let dir = tempfile::tempdir().unwrap();
        let socket = prepare(dir.path(), &id()).unwrap();
        let in_background = UnixListener::bind(&socket).unwrap();
        let refused = || {
            let failure = prepare(dir.path(), &id()).unwrap_err();
            assert_eq!(failure.kind(), Kind::Exists);
            failure.to_string()
        };
        let message = "a machine of sandbox 6ec7 runs already";
        assert_eq!(refused(), message);
        end(&socket);
        assert_eq!(refused(), message);
        drop(in_background);
        prepare(dir.path(), &id()).unwrap();
        assert!(!socket.exists());
    }

    #[test]
    fn prepare_names_unusable_run_dir() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let failure = prepare(&file, &id()).unwrap_err();
        let message = format!("could not create {}/.kata/6ec7", file.display());
        assert_eq!(failure.to_string(), message);
        let long = dir.path().join("a".repeat(100));
        let failure = prepare(&long, &id()).unwrap_err();
        assert_eq!(failure.kind(), Kind::Unsupported);
        assert!(!long.exists());
    }

    #[test]
    fn prepare_held_lock_times_out() {
        let dir = tempfile::tempdir().unwrap();
        let socket = prepare(dir.path(), &id()).unwrap();
        let _held = lock(&dir.path().join(FOLDER)).unwrap();
        let failure = prepare(dir.path(), &id()).unwrap_err();
        assert!(failure.line().ends_with("timed out"), "{failure:?}");
        assert!(socket.parent().unwrap().exists());
    }

    #[test]
    fn collect_removes_folders_of_ended_machines_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut sockets = Vec::new();
        for id in ["running", "background", "ended"] {
            sockets.push(prepare(dir.path(), &id.parse().unwrap()).unwrap());
        }
        for socket in &sockets[1..] {
            end(socket);
        }
        let _background = UnixListener::bind(&sockets[1]).unwrap();
        drop(UnixListener::bind(&sockets[2]).unwrap());
        // The journal of release 0.1.0, and a folder that is being created.
        fs::create_dir_all(dir.path().join(".kata/earlier/cards")).unwrap();
        collect(dir.path());
        let left = files::ids(&dir.path().join(FOLDER)).unwrap();
        let left: Vec<_> = left.iter().map(SandboxId::as_str).collect();
        assert_eq!(left, ["background", "earlier", "running"]);
    }
}
