//! Sandboxes of Kata Containers, by the run directories of its runtimes, which are only read.
//!
//! The Go runtime (2.x, 3.x) and 1.x keep theirs in `/run/vc`, older 1.x in `/var/lib/vc`, the Rust
//! runtime in `/run/kata`; containerd's bundles tell which sandbox a container is in. Rootless
//! runtimes have the same folders below `$XDG_RUNTIME_DIR`.

mod agent;
mod bundle;
mod go;
mod rust;

use std::path::PathBuf;

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::Failure;

use super::id::{Id, MatchKind};
#[cfg(fuzzing)]
pub(crate) use agent::qemu_cid;
use bundle::Bundles;

/// The folders in which Kata's folders are: `/`, and others for rootless runtimes and tests.
#[derive(Debug)]
pub(super) struct Roots(Vec<PathBuf>);

impl Roots {
    /// The given ones; without any, those of the system and of the caller.
    pub(super) fn new(given: &[PathBuf]) -> Self {
        if !given.is_empty() {
            return Self(given.to_owned());
        }
        let rootless = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let rootless = rootless.filter(|folder| folder.is_absolute());
        Self([PathBuf::from("/")].into_iter().chain(rootless).collect())
    }

    /// The sandboxes that are meant, in the order of this module's description.
    pub(super) fn matching(&self, wanted: &Id) -> Result<Vec<(MatchKind, Id, Found)>, Failure> {
        let mut found = Vec::new();
        for root in &self.0 {
            let bundles = Bundles::below(root, wanted)?;
            for vc in [root.join("run/vc"), root.join("var/lib/vc")] {
                found.extend(go::matching(&vc, &bundles)?);
            }
            found.extend(rust::matching(root, &bundles)?);
        }
        Ok(found)
    }
}

/// A sandbox that was found, and by whose folders.
#[derive(Debug)]
pub(super) enum Found {
    Go(go::Folders),
    Rust(rust::Folders),
}

impl Found {
    /// The folder that gives it away.
    pub(super) fn folder(&self) -> &std::path::Path {
        match self {
            Self::Go(folders) => folders.state(),
            Self::Rust(folders) => folders.state(),
        }
    }

    /// How it is reached: QMP socket, agent, network namespace.
    pub(super) fn read(&self, id: &Id) -> Result<(PathBuf, Endpoint, Option<PathBuf>), Failure> {
        match self {
            Self::Go(folders) => folders.read(id),
            Self::Rust(folders) => folders.read(id),
        }
    }
}

#[cfg(test)]
mod tests;
