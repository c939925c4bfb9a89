//! The journals of the host library.

use std::path::{Path, PathBuf};

/// Lists the files in the journals of all machines below a run directory, sorted.
pub fn journal(run_dir: &Path) -> Vec<PathBuf> {
    let machines = entries(&run_dir.join(".machines")).into_iter();
    let mut files: Vec<_> = machines
        .flat_map(|machine| entries(&machine.join("cards")))
        .collect();
    files.sort();
    files
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}
