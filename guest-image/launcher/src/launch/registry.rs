//! The run directory of sandboxes, with one folder each.
//!
//! A folder alone does not mean that the sandbox runs: the kernel is asked for its processes.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::Flock;
use patchbay_host::ops::collect;
use patchbay_host::process::Process;
use patchbay_host::sandbox::{SandboxFile, SandboxId, check_trusted, ids};
use patchbay_host::vsock_stream::has_lost_worker;
use patchbay_host::{file_lock, private};
use serde::Serialize;

use super::folder::Folder;
use super::processes::{ProcessRecord, ProcessRole, Record, end_all};
use crate::error::{Error, at};

const LOCK: &str = ".lock";
/// Longest wait for the lock; its holder creates or removes a folder.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Sandbox in the run directory, running or not.
#[derive(Debug, Clone)]
pub(crate) struct RegisteredSandbox {
    pub(crate) id: SandboxId,
    pub(crate) folder: Folder,
    /// Its properties; `None` if its launcher died before it recorded them.
    pub(crate) record: Option<Record>,
}

impl RegisteredSandbox {
    pub(crate) fn qemu(&self) -> Option<&ProcessRecord> {
        self.record.as_ref()?.running(ProcessRole::Qemu)
    }

    /// Returns the state, without a query to QEMU.
    pub(crate) fn state(&self) -> SandboxState {
        let Some(record) = &self.record else {
            return match self.foreign() {
                Some(file) if file.pid.is_none_or(is_process) => SandboxState::Foreign,
                _ => SandboxState::Dead,
            };
        };
        if record.running(ProcessRole::Launcher).is_some() {
            return SandboxState::Starting;
        }
        if self.qemu().is_none() {
            return SandboxState::Dead;
        }
        let mut processes = record.processes.iter();
        let serves =
            |proxy: &ProcessRecord| proxy.is_alive() && !has_lost_worker(proxy.process.pid);
        match processes.find(|process| process.role == ProcessRole::Vsock) {
            Some(proxy) if !serves(proxy) => SandboxState::Broken,
            _ => SandboxState::Running,
        }
    }

    /// Returns the registration of a machine that another program started.
    pub(crate) fn foreign(&self) -> Option<SandboxFile> {
        let file = SandboxFile::read(self.folder.path()).ok();
        file.filter(|_| self.record.is_none())
    }
}

fn is_process(pid: u32) -> bool {
    Process::of(pid).is_some()
}

/// State of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SandboxState {
    /// The agent has not answered yet.
    Starting,
    Running,
    /// QEMU does not run the guest at present.
    Paused,
    /// Another program started and registered the machine, and its process runs as far as it is known.
    Foreign,
    /// QEMU runs, but its vsock proxy serves no connection. QEMU can't reconnect to a new proxy.
    Broken,
    Dead,
}

impl SandboxState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Foreign => "foreign",
            Self::Broken => "broken",
            Self::Dead => "dead",
        }
    }
}

/// The run directory, which need not exist.
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn folder(&self, id: &SandboxId) -> Folder {
        Folder::new(self.0.join(id.as_str()))
    }

    /// Creates the folder of a new sandbox, replacing one that does not run.
    pub(crate) fn claim(
        &self,
        id: &SandboxId,
        record: &Record,
        wait: impl FnMut(&File, Duration) -> ControlFlow<()>,
    ) -> Result<Folder, Error> {
        private::create_folder(&self.0, private::LISTED).map_err(at(&self.0))?;
        let lock = self.lock(wait)?;
        let folder = self.folder(id);
        let path = folder.path();
        if path.is_dir() {
            let old = self.read(id.clone())?;
            let state = old.state();
            if state != SandboxState::Dead {
                return Err(Error::Exists {
                    id: id.clone(),
                    state: state.name(),
                });
            }
            if let Some(record) = &old.record {
                // A proxy outlives its QEMU.
                end_all(id, &record.processes)?;
            }
            fs::remove_dir_all(path).map_err(at(path))?;
        }
        private::create_folder(path, private::OWN).map_err(at(path))?;
        folder.write_record(record)?;
        drop(lock);
        Ok(folder)
    }

    /// Removes a sandbox's folder, unless another launcher has claimed the id meanwhile, and the state
    /// of its cards.
    pub(crate) fn remove(&self, sandbox: &RegisteredSandbox) -> Result<(), Error> {
        let lock = self.lock(file_lock::sleep)?;
        let path = sandbox.folder.path();
        if sandbox.folder.read_record()? == sandbox.record && path.exists() {
            fs::remove_dir_all(path).map_err(at(path))?;
        }
        drop(lock);
        collect(&self.0);
        Ok(())
    }

    /// Finds the sandbox with this id or, if there is none, this unique prefix.
    pub(crate) fn find(&self, prefix: &str) -> Result<RegisteredSandbox, Error> {
        let ids = ids(&self.0)?.into_iter();
        // Sorted, so an exact match is the first.
        let mut matching = ids.filter(|id| id.as_str().starts_with(prefix));
        match (matching.next(), matching.next()) {
            (None, _) => Err(Error::NotFound(prefix.to_owned())),
            (Some(first), Some(second)) if first.as_str() != prefix => Err(Error::Ambiguous {
                prefix: prefix.to_owned(),
                first,
                second,
            }),
            (Some(id), _) => self.read(id),
        }
    }

    /// Lists all sandboxes, sorted by id.
    pub(crate) fn list(&self) -> Result<Vec<RegisteredSandbox>, Error> {
        let ids = ids(&self.0)?.into_iter();
        ids.map(|id| self.read(id)).collect()
    }

    fn read(&self, id: SandboxId) -> Result<RegisteredSandbox, Error> {
        let folder = self.folder(&id);
        let record = folder.read_record()?;
        Ok(RegisteredSandbox { id, folder, record })
    }

    /// Locks the run directory; `wait` sleeps between two attempts.
    fn lock(
        &self,
        wait: impl FnMut(&File, Duration) -> ControlFlow<()>,
    ) -> Result<Flock<File>, Error> {
        check_trusted(&self.0)?;
        let path = self.0.join(LOCK);
        let file = private::open_lock(&path).map_err(at(&path))?;
        file_lock::take(file, LOCK_TIMEOUT, wait).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Error::Locked(path),
            io::ErrorKind::Interrupted => Error::Interrupted,
            _ => at(&path)(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Tools;
    use crate::launch::options::MachineType;

    fn id(text: &str) -> SandboxId {
        text.parse().unwrap()
    }

    fn record(processes: Vec<ProcessRecord>) -> Record {
        Record {
            machine: MachineType::Q35,
            tools: Tools::Without,
            netns: None,
            processes,
        }
    }

    fn alive() -> Record {
        record(vec![
            ProcessRecord::of(ProcessRole::Qemu, std::process::id()).unwrap(),
        ])
    }

    #[test]
    fn claim_replaces_dead_sandbox_only() {
        let root = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(root.path().join("run"));
        let folder = run_dir
            .claim(&id("a"), &record(Vec::new()), file_lock::sleep)
            .unwrap();
        fs::write(folder.file("left-over"), b"").unwrap();
        run_dir.claim(&id("a"), &alive(), file_lock::sleep).unwrap();
        assert!(!folder.file("left-over").exists());
        let error = run_dir
            .claim(&id("a"), &alive(), file_lock::sleep)
            .unwrap_err();
        assert!(matches!(error, Error::Exists { id: name, .. } if name == id("a")));
    }

    #[test]
    fn find_needs_id_or_unique_prefix() {
        let root = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(root.path().to_owned());
        for name in ["ab", "abc", "b"] {
            run_dir
                .claim(&id(name), &alive(), file_lock::sleep)
                .unwrap();
        }
        assert_eq!(run_dir.find("ab").unwrap().id, id("ab"));
        assert_eq!(run_dir.find("abc").unwrap().id, id("abc"));
        let error = run_dir.find("a").unwrap_err();
        assert!(matches!(error, Error::Ambiguous { prefix, .. } if prefix == "a"));
        let error = run_dir.find("c").unwrap_err();
        assert!(matches!(error, Error::NotFound(name) if name == "c"));
        assert_eq!(run_dir.list().unwrap().len(), 3);
    }

    #[test]
    fn sandbox_without_its_proxy_is_broken() {
        let root = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(root.path().to_owned());
        let mut running = alive();
        let proxy = ProcessRecord {
            role: ProcessRole::Vsock,
            ..running.processes[0]
        };
        running.processes.push(proxy);
        let mut broken = running.clone();
        broken.processes[1].process.start_time -= 1;
        for (name, record, state) in [
            ("a", running, SandboxState::Running),
            ("b", broken, SandboxState::Broken),
            ("c", record(Vec::new()), SandboxState::Dead),
        ] {
            run_dir.claim(&id(name), &record, file_lock::sleep).unwrap();
            assert_eq!(run_dir.find(name).unwrap().state(), state);
        }
    }

    #[test]
    fn remove_keeps_folder_of_new_claim() {
        let root = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(root.path().to_owned());
        run_dir
            .claim(&id("a"), &record(Vec::new()), file_lock::sleep)
            .unwrap();
        let old = run_dir.find("a").unwrap();
        run_dir.claim(&id("a"), &alive(), file_lock::sleep).unwrap();
        run_dir.remove(&old).unwrap();
        let new = run_dir.find("a").unwrap();
        run_dir.remove(&new).unwrap();
        assert!(run_dir.list().unwrap().is_empty());
    }

    #[test]
    fn list_without_run_dir_is_empty() {
        let run_dir = RunDir::new("/nonexistent/run".into());
        assert!(run_dir.list().unwrap().is_empty());
    }

    #[test]
    fn claim_while_the_lock_is_held_can_be_interrupted() {
        let root = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(root.path().to_owned());
        let _held = run_dir.lock(file_lock::sleep).unwrap();
        let mut attempts = 0;
        let claimed = run_dir.claim(&id("a"), &alive(), |_, _| {
            attempts += 1;
            if attempts < 3 {
                return ControlFlow::Continue(());
            }
            ControlFlow::Break(())
        });
        assert!(matches!(claimed, Err(Error::Interrupted)));
        assert!(!root.path().join("a").exists());
    }

    #[test]
    fn lock_that_is_a_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let secret = root.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        std::os::unix::fs::symlink(&secret, root.path().join(LOCK)).unwrap();
        let run_dir = RunDir::new(root.path().to_owned());
        assert!(run_dir.claim(&id("a"), &alive(), file_lock::sleep).is_err());
        assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
    }
}
