//! Cleans up after tests that were killed, which drop nothing.
//!
//! Each run directory records the process and the source tree that created it; the next test of the
//! same tree stops the sandboxes of processes that no longer exist.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::TEMPORARY;
use crate::{guest, run};

/// File with the process ID and the source tree.
const OWNER: &str = ".test";

/// Records this process as the owner of a run directory.
pub(crate) fn claim(run_dir: &Path) {
    let owner = format!("{}\n{}", std::process::id(), env!("CARGO_MANIFEST_DIR"));
    fs::write(run_dir.join(OWNER), owner).unwrap();
}

/// Removes what killed tests left. Other tests can do so at the same time, so each step can fail.
pub(crate) fn sweep() {
    for (run_dir, pid) in owned() {
        if Path::new("/proc").join(&pid).exists() {
            continue;
        }
        eprintln!("removing what process {pid} left in {}", run_dir.display());
        for sandbox in names(&run_dir) {
            guest::sandbox(&run_dir, &["stop", &sandbox], "");
        }
        let prefix = format!("pb-test-{pid}-");
        for netns in names(Path::new("/run/netns")) {
            if netns.starts_with(&prefix) {
                run(Command::new("ip").args(["netns", "del", &netns]), "");
            }
        }
        let _ = fs::remove_dir_all(run_dir);
    }
}

/// Lists the run directories of this tree's tests, each with its process ID.
fn owned() -> Vec<(PathBuf, String)> {
    let folders = names(Path::new(TEMPORARY)).into_iter();
    let folders = folders.map(|name| Path::new(TEMPORARY).join(name));
    let owned = folders.filter_map(|folder| {
        let owner = fs::read_to_string(folder.join(OWNER)).ok()?;
        let (pid, tree) = owner.split_once('\n')?;
        (tree == env!("CARGO_MANIFEST_DIR")).then(|| (folder, pid.to_owned()))
    });
    owned.collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweep_keeps_run_dir_of_live_process() {
        let dir = crate::temp_dir();
        claim(dir.path());
        sweep();
        assert!(dir.path().exists());
    }

    #[test]
    fn sweep_removes_run_dir_of_dead_process() {
        let dir = crate::temp_dir();
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let owner = format!("{}\n{}", child.id(), env!("CARGO_MANIFEST_DIR"));
        fs::write(dir.path().join(OWNER), owner).unwrap();
        sweep();
        assert!(!dir.path().exists());
    }
}
