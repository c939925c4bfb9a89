//! The run directory of sandboxes, with one folder each.
//!
//! A folder alone does not mean that the sandbox runs: the kernel is asked for its processes.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use patchbay_host::sandbox::{SandboxId, ids};

use super::LaunchError;
use super::folder::Folder;
use super::processes::{ProcessRecord, ProcessRole};
use super::record::Record;

const LOCK: &str = ".lock";

/// Sandbox in the run directory, running or not.
#[derive(Debug, Clone)]
pub struct RegisteredSandbox {
    /// Its id.
    pub id: SandboxId,
    /// Its files.
    pub folder: Folder,
    /// Its properties; `None` if its launcher died before it recorded them.
    pub record: Option<Record>,
}

impl RegisteredSandbox {
    fn read(id: SandboxId, folder: Folder) -> Result<Self, LaunchError> {
        let record = folder.read_record()?;
        Ok(Self { id, folder, record })
    }

    /// Returns the QEMU process if it runs.
    #[must_use]
    pub fn qemu(&self) -> Option<&ProcessRecord> {
        self.record.as_ref()?.running(ProcessRole::Qemu)
    }
}

/// The run directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Opens the run directory `path`, which need not exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn folder(&self, id: &SandboxId) -> Folder {
        Folder::new(self.path.join(id.as_str()))
    }

    /// Creates the folder of a new sandbox, replacing one that does not run.
    pub fn claim(&self, id: &SandboxId, record: &Record) -> Result<Folder, LaunchError> {
        fs::create_dir_all(&self.path).map_err(at(&self.path))?;
        let lock = self.lock()?;
        let folder = self.folder(id);
        let path = folder.path();
        if path.is_dir() {
            if folder.read_record()?.is_some_and(|old| old.is_alive()) {
                return Err(LaunchError::Exists(id.clone()));
            }
            fs::remove_dir_all(path).map_err(at(path))?;
        }
        let mut builder = DirBuilder::new();
        builder.mode(0o700).create(path).map_err(at(path))?;
        folder.write_record(record)?;
        drop(lock);
        Ok(folder)
    }

    /// Removes a sandbox's folder, unless another launcher has claimed the id meanwhile.
    pub fn remove(&self, sandbox: &RegisteredSandbox) -> Result<(), LaunchError> {
        let lock = self.lock()?;
        let path = sandbox.folder.path();
        if sandbox.folder.read_record()? == sandbox.record && path.exists() {
            fs::remove_dir_all(path).map_err(at(path))?;
        }
        drop(lock);
        Ok(())
    }

    /// Finds the sandbox with this id or, if there is none, this unique prefix.
    pub fn find(&self, prefix: &str) -> Result<RegisteredSandbox, LaunchError> {
        let ids = ids(&self.path)?;
        let mut matching = ids.iter().filter(|id| id.as_str().starts_with(prefix));
        let exact = ids.iter().find(|id| id.as_str() == prefix);
        let found = match (exact, matching.next(), matching.next()) {
            (Some(id), _, _) | (None, Some(id), None) => id,
            (None, Some(first), Some(second)) => {
                return Err(LaunchError::Ambiguous {
                    prefix: prefix.to_owned(),
                    first: first.clone(),
                    second: second.clone(),
                });
            }
            (None, None, _) => return Err(LaunchError::NotFound(prefix.to_owned())),
        };
        RegisteredSandbox::read(found.clone(), self.folder(found))
    }

    /// Lists all sandboxes, sorted by id.
    pub fn list(&self) -> Result<Vec<RegisteredSandbox>, LaunchError> {
        let read = |id: SandboxId| {
            let folder = self.folder(&id);
            RegisteredSandbox::read(id, folder)
        };
        ids(&self.path)?.into_iter().map(read).collect()
    }

    fn lock(&self) -> Result<Flock<File>, LaunchError> {
        let path = self.path.join(LOCK);
        let file = File::create(&path).map_err(at(&path))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| at(&path)(errno.into()))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LaunchError + use<> {
    let path = path.to_owned();
    move |source| LaunchError::Io { path, source }
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
        let folder = run_dir.claim(&id("a"), &record(Vec::new())).unwrap();
        fs::write(folder.path().join("left-over"), b"").unwrap();
        run_dir.claim(&id("a"), &alive()).unwrap();
        assert!(!folder.path().join("left-over").exists());
        let error = run_dir.claim(&id("a"), &alive()).unwrap_err();
        assert!(matches!(error, LaunchError::Exists(name) if name == id("a")));
    }

    #[test]
    fn find_needs_id_or_unique_prefix() {
        let root = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(root.path().to_owned());
        for name in ["ab", "abc", "b"] {
            run_dir.claim(&id(name), &alive()).unwrap();
        }
        assert_eq!(run_dir.find("ab").unwrap().id, id("ab"));
        assert_eq!(run_dir.find("abc").unwrap().id, id("abc"));
        let error = run_dir.find("a").unwrap_err();
        assert!(matches!(error, LaunchError::Ambiguous { prefix, .. } if prefix == "a"));
        let error = run_dir.find("c").unwrap_err();
        assert!(matches!(error, LaunchError::NotFound(name) if name == "c"));
        assert_eq!(run_dir.list().unwrap().len(), 3);
    }

    #[test]
    fn remove_keeps_folder_of_new_claim() {
        let root = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(root.path().to_owned());
        run_dir.claim(&id("a"), &record(Vec::new())).unwrap();
        let old = run_dir.find("a").unwrap();
        run_dir.claim(&id("a"), &alive()).unwrap();
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
}
