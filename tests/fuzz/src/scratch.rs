//! Temporary folder for functions that take a path.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub(crate) struct Scratch(TempDir);

impl Scratch {
    /// libFuzzer exits without dropping values, so `scripts/fuzz.sh` sets `TMPDIR` to a folder in memory
    /// and removes it.
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a folder can be made"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a folder can be made");
        }
        fs::write(&path, bytes).expect("a file can be written");
        path
    }
}
