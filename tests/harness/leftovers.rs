//! What tests leave that were killed: a process that is ended by a signal drops nothing.
//!
//! A run directory is signed with the process and the source tree that made it; the next test of
//! the same tree ends what ran there for a process that is no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::TEMPORARY;
use crate::{guest, run};

/// The file with the signature: process id, source tree.
const SIGNATURE: &str = ".test";

/// Signs a run directory.
pub(crate) fn sign(run_dir: &Path) {
    let signature = format!("{}\n{}", std::process::id(), env!("CARGO_MANIFEST_DIR"));
    fs::write(run_dir.join(SIGNATURE), signature).unwrap();
}

/// Ends what is left. Other tests may do so at the same time, so nothing here has to succeed.
pub(crate) fn sweep() {
    for (run_dir, pid) in signed() {
        if Path::new("/proc").join(&pid).exists() {
            continue;
        }
        eprintln!("ending what process {pid} left in {}", run_dir.display());
        for sandbox in names(&run_dir) {
            guest::sandbox(&run_dir, &["stop", &sandbox], "");
        }
        let made = format!("pb-test-{pid}-");
        for netns in names(Path::new("/run/netns")) {
            if netns.starts_with(&made) {
                run(Command::new("ip").args(["netns", "del", &netns]), "");
            }
        }
        let _ = fs::remove_dir_all(run_dir);
    }
}

/// The run directories of this tree's tests, with their process.
fn signed() -> Vec<(PathBuf, String)> {
    let folders = names(Path::new(TEMPORARY)).into_iter();
    let folders = folders.map(|name| Path::new(TEMPORARY).join(name));
    let signed = folders.filter_map(|folder| {
        let signature = fs::read_to_string(folder.join(SIGNATURE)).ok()?;
        let (pid, tree) = signature.split_once('\n')?;
        (tree == env!("CARGO_MANIFEST_DIR")).then(|| (folder, pid.to_owned()))
    });
    signed.collect()
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
    fn what_runs_for_the_living_is_left_alone() {
        let dir = crate::temp_dir();
        sign(dir.path());
        sweep();
        assert!(dir.path().exists());
    }

    #[test]
    fn what_the_dead_left_goes() {
        let dir = crate::temp_dir();
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let signature = format!("{}\n{}", child.id(), env!("CARGO_MANIFEST_DIR"));
        fs::write(dir.path().join(SIGNATURE), signature).unwrap();
        sweep();
        assert!(!dir.path().exists());
    }
}
