//! The run directory: one folder per registered sandbox, which holds its `sandbox.json`.

use std::path::{Path, PathBuf};

use patchbay_types::InvalidValue;
use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::Failure;
use serde::{Deserialize, Serialize};

use super::files;
use super::id::{Candidate, Origin, SandboxId};

/// Default run directory.
pub const DEFAULT_RUN_DIR: &str = "/run/patchbay";

/// Contents of `sandbox.json`, which registers a sandbox. Other programs can write it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxFile {
    /// QMP socket.
    pub qmp: PathBuf,
    /// URL of the agent: `vsock://`, `hvsock://` or `unix://`.
    pub agent: String,
    /// Network namespace of the TAP devices; `None`: the caller's.
    pub netns: Option<PathBuf>,
    /// Process id of QEMU, where the program that registers the sandbox knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

impl SandboxFile {
    /// Name of the file in the sandbox's folder.
    pub const NAME: &str = "sandbox.json";

    /// Reads the file in the folder of a sandbox.
    ///
    /// # Errors
    /// A file that can't be read or holds something else; the message names it.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        files::json(&folder.join(Self::NAME))
    }

    /// Address of the agent.
    ///
    /// # Errors
    /// Text that is not the URL of an agent.
    pub fn endpoint(&self) -> Result<Endpoint, Failure> {
        let endpoint = self.agent.parse();
        endpoint.map_err(|invalid: InvalidValue| invalid.in_field("agent").into())
    }
}

/// Returns the path of a network namespace given as a path or, as for `ip netns`, as a name under
/// `/run/netns`.
#[must_use]
pub fn netns_path(netns: &Path) -> PathBuf {
    match netns.components().count() {
        1 => Path::new("/run/netns").join(netns),
        _ => netns.to_owned(),
    }
}

/// Returns why registered sandboxes are missing from a list of all.
pub(super) fn left_out(run_dir: &Path) -> Result<Vec<(SandboxId, Failure)>, Failure> {
    let mut left_out = Vec::new();
    for id in files::ids(run_dir)? {
        let folder = run_dir.join(id.as_str());
        let exists = files::exists(&folder.join(SandboxFile::NAME));
        let read = || {
            if exists? {
                SandboxFile::read(&folder)?.endpoint()?;
            }
            Ok::<_, Failure>(())
        };
        left_out.extend(read().err().map(|failure| (id, failure)));
    }
    Ok(left_out)
}

/// Lists the registered sandboxes that match. Among all, those whose files another user can change are left out.
pub(super) fn matching(
    run_dir: &Path,
    wanted: Option<&SandboxId>,
) -> Result<Vec<Candidate>, Failure> {
    let mut found = Vec::new();
    for id in files::ids(run_dir)? {
        let folder = run_dir.join(id.as_str());
        let Some(kind) = id.matches(wanted) else {
            continue;
        };
        let is_registered = match (files::exists(&folder.join(SandboxFile::NAME)), wanted) {
            (Err(_), None) => false,
            (exists, _) => exists?,
        };
        if is_registered {
            found.push(Candidate {
                kind,
                id,
                folder,
                origin: Origin::Registered,
            });
        }
    }
    Ok(found)
}
