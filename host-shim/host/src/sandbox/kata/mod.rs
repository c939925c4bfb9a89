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

use super::id::{Candidate, KataRuntime, SandboxId};
use super::{Lookup, MachineAccess, files};
#[cfg(feature = "fuzzing")]
pub(crate) use agent::qemu_cid;
use bundle::Bundles;

impl KataRuntime {
    /// Reads how the sandbox in this folder is reached.
    pub(super) fn read(&self, folder: &Path, id: &SandboxId) -> Result<MachineAccess, Failure> {
        match self {
            Self::Go(machine) => go::read(folder, machine, id),
            Self::Rust(bundles) => rust::read(folder, bundles, id),
        }
    }
}

/// Lists the sandboxes that match, in the order of this module's description, below [`files::roots`].
pub(super) fn matching(
    roots: &[PathBuf],
    wanted: Option<&SandboxId>,
) -> Result<Vec<Candidate>, Failure> {
    let mut found = Vec::new();
    for root in files::roots(roots) {
        let bundles = Bundles::below(&root, wanted)?;
        for vc in [root.join("run/vc"), root.join("var/lib/vc")] {
            found.extend(go::matching(&vc, &bundles)?);
        }
        found.extend(rust::matching(&root, &bundles)?);
    }
    Ok(found)
}

/// Lists the folders that have one folder per sandbox, which need not exist.
pub(super) fn folders(roots: &[PathBuf]) -> Vec<PathBuf> {
    let folders = ["run/vc/sbs", "var/lib/vc/sbs", "run/kata"];
    let roots = files::roots(roots).into_iter();
    roots
        .flat_map(|root| folders.map(|folder| root.join(folder)))
        .collect()
}

/// Returns an annotation of a sandbox in the specification of its container.
///
/// # Errors
/// A specification that can't be read.
pub(crate) fn annotation(
    lookup: &Lookup,
    sandbox: &SandboxId,
    key: &str,
) -> Result<Option<String>, Failure> {
    for root in files::roots(&lookup.kata_roots) {
        let value = bundle::annotation(&root, sandbox, key)?;
        if value.is_some() {
            return Ok(value);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
