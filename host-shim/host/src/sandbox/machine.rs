//! Identity of a machine, and the folder of its lock and journal.
//!
//! A machine is identified by the file of its monitor's socket. Ids, options and links lead to the
//! same file, so every command finds the same lock and journal, however the sandbox is named.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use patchbay_types::failure::{Failure, Kind};
use serde::{Deserialize, Serialize};

use super::{files, trusted};
use crate::process::Process;
use crate::{private, vsock_stream};

/// Folder in the run directory with one folder per machine. No id starts with a dot.
const MACHINES: &str = ".machines";
/// Description of the machine in its folder.
const MACHINE: &str = "machine.json";

/// Contents of `machine.json`, by which a machine that has ended is recognized.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MachineFile {
    /// Absolute path of the monitor's socket.
    monitor: PathBuf,
    /// QEMU, once the monitor has been used.
    #[serde(flatten)]
    qemu: Option<Process>,
}

impl MachineFile {
    /// Reads the file in a machine's folder; `None` if it is missing or torn.
    fn read(folder: &Path) -> Option<Self> {
        files::json(&folder.join(MACHINE)).ok()
    }
}

/// Folder of a machine's lock and journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateDir {
    path: PathBuf,
    monitor: PathBuf,
}

impl StateDir {
    /// Returns the folder of the machine with this monitor, which need not exist.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without a socket.
    pub(crate) fn of(run_dir: &Path, monitor: &Path) -> Result<Self, Failure> {
        let resolve = || Ok((folder_name(monitor)?, monitor.canonicalize()?));
        let (name, monitor) = resolve().map_err(|error| no_monitor(monitor, &error))?;
        let path = run_dir.join(MACHINES).join(name);
        Ok(Self { path, monitor })
    }

    /// Lists the folders of all machines.
    pub(crate) fn all(run_dir: &Path) -> Vec<Self> {
        let machines = run_dir.join(MACHINES);
        let names = files::names(&machines).unwrap_or_default().into_iter();
        let states = names.map(|name| {
            let path = machines.join(name);
            let file = MachineFile::read(&path);
            let monitor = file.map(|file| file.monitor).unwrap_or_default();
            Self { path, monitor }
        });
        states.collect()
    }

    /// Returns whether the machine has ended. The path of its monitor decides only while QEMU's process
    /// is unknown: one of several paths can be removed while the machine runs.
    pub(crate) fn has_ended(&self) -> bool {
        let qemu = MachineFile::read(&self.path).and_then(|file| file.qemu);
        let runs = |qemu: Process| qemu.is_alive() || self.is_served();
        !qemu.map_or_else(|| self.is_current(), runs)
    }

    /// Returns whether a process listens on the monitor's socket. One of another PID namespace is invisible.
    fn is_served(&self) -> bool {
        self.is_current() && !vsock_stream::is_closed(&self.monitor)
    }

    /// Returns the machine's QEMU if that is known to run.
    pub(super) fn qemu(&self) -> Option<Process> {
        let qemu = MachineFile::read(&self.path)?.qemu?;
        qemu.is_alive().then_some(qemu)
    }

    /// Returns the id of the machine's QEMU if that is known to have ended.
    pub(super) fn ended_qemu(&self) -> Option<u32> {
        let qemu = MachineFile::read(&self.path)?.qemu?;
        (!qemu.is_alive()).then_some(qemu.pid)
    }

    /// Path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the monitor still has the same socket.
    pub(crate) fn is_current(&self) -> bool {
        let name = folder_name(&self.monitor).ok();
        self.path.file_name().and_then(|own| own.to_str()) == name.as_deref()
    }

    /// Describes the machine in the folder, whose lock is held; `qemu` is unknown without a session.
    pub(crate) fn describe(&self, qemu: Option<Process>) -> Result<(), Failure> {
        let path = self.path.join(MACHINE);
        let known = MachineFile::read(&self.path);
        let monitor = self.monitor.clone();
        let qemu = qemu.or(known.as_ref().and_then(|known| known.qemu));
        let file = MachineFile { monitor, qemu };
        if known.as_ref() == Some(&file) {
            return Ok(());
        }
        let text = serde_json::to_vec(&file).map_err(io::Error::from);
        let written = text.and_then(|text| private::replace(&path, &text));
        written
            .map_err(|error| Failure::of_io(format!("could not write {}", path.display()), &error))
    }
}

/// Returns the name of a machine's folder: device and inode of the socket, as `stat` prints them.
fn folder_name(monitor: &Path) -> io::Result<String> {
    let socket = fs::metadata(monitor)?;
    Ok(format!("{}-{}", socket.dev(), socket.ino()))
}

/// Returns the failure for a monitor without a socket.
pub(super) fn no_monitor(path: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return trusted::unreadable(path, error);
    }
    let message = format!("no QEMU answers at {}", path.display());
    Failure::new(Kind::NotFound, message).with_cause(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    /// Process that has ended.
    fn ended_process() -> Process {
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = Process::of(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        process
    }

    #[test]
    fn state_dir_is_that_of_the_socket_by_any_path() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp.sock");
        let _qemu = UnixListener::bind(&socket).unwrap();
        let links = [dir.path().join("symlink"), dir.path().join("hard-link")];
        symlink(&socket, &links[0]).unwrap();
        fs::hard_link(&socket, &links[1]).unwrap();
        let state = StateDir::of(dir.path(), &socket).unwrap();
        for link in &links {
            let other = StateDir::of(dir.path(), link).unwrap();
            assert_eq!(other.path(), state.path(), "{}", link.display());
        }
        // Another socket at the same path is another machine.
        fs::rename(&socket, dir.path().join("old")).unwrap();
        let _other_qemu = UnixListener::bind(&socket).unwrap();
        assert!(!state.is_current());
        assert_ne!(StateDir::of(dir.path(), &socket).unwrap(), state);
    }

    #[test]
    fn state_dir_without_socket_is_not_found() {
        let failure = StateDir::of(Path::new("/run"), Path::new("/nonexistent/qmp.sock"));
        let failure = failure.unwrap_err();
        assert_eq!(failure.kind(), Kind::NotFound);
        assert_eq!(
            failure.to_string(),
            "no QEMU answers at /nonexistent/qmp.sock"
        );
    }

    #[test]
    fn machine_without_process_or_socket_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let state = |name: &str, qemu| {
            let socket = dir.path().join(name);
            fs::write(&socket, "").unwrap();
            let state = StateDir::of(dir.path(), &socket).unwrap();
            fs::create_dir_all(state.path()).unwrap();
            state.describe(qemu).unwrap();
            state
        };
        let alive = Process::of(std::process::id());
        state("running", alive);
        let renamed = state("renamed", alive);
        fs::rename(&renamed.monitor, dir.path().join("other")).unwrap();
        state("unused", None);
        let killed = state("killed", Some(ended_process()));
        let removed = state("removed", None);
        fs::rename(&removed.monitor, dir.path().join("old")).unwrap();
        let socket = UnixListener::bind(dir.path().join("invisible")).unwrap();
        let invisible = StateDir::of(dir.path(), &dir.path().join("invisible")).unwrap();
        fs::create_dir_all(invisible.path()).unwrap();
        invisible.describe(Some(ended_process())).unwrap();
        let mut ended = StateDir::all(dir.path());
        ended.retain(StateDir::has_ended);
        ended.sort_by_key(|state| state.monitor.clone());
        assert_eq!(ended, [killed, removed]);
        drop(socket);
        assert!(invisible.has_ended());
    }

    #[test]
    fn describe_keeps_known_process() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp.sock");
        fs::write(&socket, "").unwrap();
        let state = StateDir::of(dir.path(), &socket).unwrap();
        fs::create_dir_all(state.path()).unwrap();
        let qemu = Some(ended_process());
        state.describe(qemu).unwrap();
        state.describe(None).unwrap();
        assert_eq!(MachineFile::read(state.path()).unwrap().qemu, qemu);
    }
}
