//! Sandboxes of Kata Containers, found by the run directories of its runtimes, which are only read.
//!
//! The Go runtime (2.x, 3.x) and 1.x use `/run/vc`, older 1.x `/var/lib/vc`, the Rust runtime
//! `/run/kata`; containerd's bundles name the sandbox of a container. Rootless runtimes have the same
//! folders below `$XDG_RUNTIME_DIR`.

mod agent;
mod bundle;
mod go;
mod rust;

use std::path::{Path, PathBuf};

use patchbay_types::failure::Failure;

use super::MachineAccess;
use super::id::{MatchKind, SandboxId};
#[cfg(feature = "fuzzing")]
pub(crate) use agent::qemu_cid;
use bundle::Bundles;

/// Folders that contain Kata's folders: `/`, and others for rootless runtimes and tests.
#[derive(Debug)]
pub(super) struct KataRoots(Vec<PathBuf>);

impl KataRoots {
    /// Uses the given roots, or else those of the system and of the calling user.
    pub(super) fn new(given: &[PathBuf]) -> Self {
        if !given.is_empty() {
            return Self(given.to_owned());
        }
        let rootless = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let rootless = rootless.filter(|folder| folder.is_absolute());
        Self([PathBuf::from("/")].into_iter().chain(rootless).collect())
    }

    /// Lists the sandboxes that match, in the order of this module's description.
    pub(super) fn matching(
        &self,
        wanted: &SandboxId,
    ) -> Result<Vec<(MatchKind, SandboxId, KataSandbox)>, Failure> {
        let mut found = Vec::new();
        for root in &self.0 {
            let bundles = Bundles::below(root, wanted)?;
            for vc in [root.join("run/vc"), root.join("var/lib/vc")] {
                let go = go::matching(&vc, &bundles)?.into_iter();
                found.extend(go.map(|(kind, id, folders)| (kind, id, KataSandbox::Go(folders))));
            }
            let rust = rust::matching(root, &bundles)?.into_iter();
            found.extend(rust.map(|(kind, id, folders)| (kind, id, KataSandbox::Rust(folders))));
        }
        Ok(found)
    }
}

/// Folders of a sandbox, by runtime.
#[derive(Debug)]
pub(super) enum KataSandbox {
    Go(go::GoFolders),
    Rust(rust::RustFolders),
}

impl KataSandbox {
    /// Folder in which the sandbox was found.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Go(folders) => folders.state(),
            Self::Rust(folders) => folders.state(),
        }
    }

    /// Reads how the sandbox is reached.
    pub(super) fn read(&self, id: &SandboxId) -> Result<MachineAccess, Failure> {
        match self {
            Self::Go(folders) => folders.read(id),
            Self::Rust(folders) => folders.read(id),
        }
    }
}

#[cfg(test)]
mod tests;
