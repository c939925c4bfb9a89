//! The folder of sandboxes: one sub-folder each, found by id or unique prefix.
//!
//! Nothing here is believed without asking the kernel: a sandbox is as alive as its processes.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::LaunchError;
use super::folder::Folder;
use super::processes::{ProcessRecord, Role};
use super::qemu::Machine;
use crate::image::Tools;

/// Where sandboxes live when nothing else is said.
pub const DEFAULT_RUN_DIR: &str = "/run/patchbay";

const LOCK: &str = ".lock";

const MAX_ID: usize = 64;

/// A sandbox's name: a letter or digit, then at most 63 of letters, digits, `_`, `.` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SandboxId(String);

/// Text that is no sandbox's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no sandbox id: it takes a letter or digit, then at most 63 letters, digits, '_', \
     '.' or '-'."
)]
pub struct BadId(String);

impl FromStr for SandboxId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let starts_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if starts_well && text.len() <= MAX_ID && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadId(text.to_owned()))
        }
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a sandbox was started as, and with which processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The machine's kind.
    pub machine: Machine,
    /// Whether `exec` works.
    pub tools: Tools,
    /// The network namespace of QEMU, when it isn't the launcher's.
    pub netns: Option<PathBuf>,
    /// Everything that runs for it.
    pub processes: Vec<ProcessRecord>,
}

impl Record {
    /// Whether any of its processes runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.processes.iter().any(ProcessRecord::is_alive)
    }

    /// Its process of this role, when it runs.
    #[must_use]
    pub fn running(&self, role: Role) -> Option<&ProcessRecord> {
        let mut with_role = self.processes.iter().filter(|found| found.role == role);
        with_role.find(|found| found.is_alive())
    }
}

/// A sandbox that has a folder.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Its name.
    pub id: SandboxId,
    /// Its files.
    pub folder: Folder,
    /// What it was started as; `None` when its launcher died before it could say.
    pub record: Option<Record>,
}

impl Sandbox {
    fn read(id: SandboxId, folder: Folder) -> Result<Self, LaunchError> {
        let record = folder.read_record()?;
        Ok(Self { id, folder, record })
    }

    /// Its QEMU, when it runs.
    #[must_use]
    pub fn qemu(&self) -> Option<&ProcessRecord> {
        self.record.as_ref()?.running(Role::Qemu)
    }
}

/// The folder of all sandboxes.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// The sandboxes below `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn folder(&self, id: &SandboxId) -> Folder {
        Folder::new(self.path.join(&id.0))
    }

    /// Makes the folder of a new sandbox, in place of a dead one of that name.
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

    /// Removes a sandbox's folder, unless somebody has claimed the name anew meanwhile.
    pub fn remove(&self, sandbox: &Sandbox) -> Result<(), LaunchError> {
        let lock = self.lock()?;
        let path = sandbox.folder.path();
        if sandbox.folder.read_record()? == sandbox.record && path.exists() {
            fs::remove_dir_all(path).map_err(at(path))?;
        }
        drop(lock);
        Ok(())
    }

    /// The sandbox of this id or, when there is none, the only one whose id begins with it.
    pub fn find(&self, prefix: &str) -> Result<Sandbox, LaunchError> {
        let ids = self.ids()?;
        let mut matching = ids.iter().filter(|id| id.0.starts_with(prefix));
        let exact = ids.iter().find(|id| id.0 == prefix);
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
        Sandbox::read(found.clone(), self.folder(found))
    }

    /// All sandboxes, sorted by id.
    pub fn list(&self) -> Result<Vec<Sandbox>, LaunchError> {
        let read = |id: SandboxId| {
            let folder = self.folder(&id);
            Sandbox::read(id, folder)
        };
        self.ids()?.into_iter().map(read).collect()
    }

    fn ids(&self) -> Result<Vec<SandboxId>, LaunchError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(&self.path)(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(at(&self.path))?;
            let name = entry.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.parse().ok()) {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
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

    fn id(text: &str) -> SandboxId {
        text.parse().unwrap()
    }

    fn record(processes: Vec<ProcessRecord>) -> Record {
        Record {
            machine: Machine::Q35,
            tools: Tools::Without,
            netns: None,
            processes,
        }
    }

    fn alive() -> Record {
        record(vec![
            ProcessRecord::of(Role::Qemu, std::process::id()).unwrap(),
        ])
    }

    #[test]
    fn ids_follow_the_rule() {
        for good in ["a", "0", "A_b.c-d", &"x".repeat(64)] {
            assert_eq!(id(good).to_string(), *good);
        }
        for bad in [
            "",
            ".a",
            "-a",
            "_a",
            "a/b",
            "a b",
            "ä",
            "a\n",
            &"x".repeat(65),
        ] {
            assert_eq!(bad.parse::<SandboxId>(), Err(BadId(bad.to_string())));
        }
    }

    #[test]
    fn living_name_is_refused_and_dead_one_replaced() {
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
    fn prefix_finds_the_only_one() {
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
    fn folder_claimed_anew_is_not_removed() {
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
    fn no_run_dir_means_no_sandboxes() {
        let run_dir = RunDir::new("/nonexistent/run".into());
        assert!(run_dir.list().unwrap().is_empty());
    }
}
