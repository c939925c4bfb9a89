//! The Rust runtime: `/run/kata/SANDBOX/state.json`, `/run/kata/SANDBOX/shim-monitor.sock`, and a
//! QMP socket in the sandbox's containerd bundle, which was the shim's working directory.

use std::path::{Path, PathBuf};

use patchbay_types::failure::Failure;
use serde::Deserialize;

use super::agent;
use super::bundle::{self, Bundles};
use crate::sandbox::id::{MatchKind, SandboxId};
use crate::sandbox::{MachineAccess, files};

const STATE: &str = "state.json";
const QMP: &str = "qmp.sock";

/// Used fields of `SandboxState` in runtime-rs. Older runtimes with QEMU omit `pid` and `netns`.
#[derive(Deserialize)]
struct SandboxState {
    hypervisor: Option<Hypervisor>,
}

#[derive(Deserialize)]
struct Hypervisor {
    pid: Option<i64>,
    netns: Option<PathBuf>,
}

/// Folders of one sandbox.
#[derive(Debug)]
pub(in crate::sandbox) struct RustFolders {
    state: PathBuf,
    bundles: Vec<PathBuf>,
}

/// Lists the sandboxes below `root` that match.
pub(super) fn matching(
    root: &Path,
    bundles: &Bundles<'_>,
) -> Result<Vec<(MatchKind, SandboxId, RustFolders)>, Failure> {
    let mut found = Vec::new();
    let kata = root.join("run/kata");
    for id in files::ids(&kata)? {
        let state = kata.join(id.as_str());
        let is_sandbox = [STATE, "shim-monitor.sock"]
            .iter()
            .any(|name| state.join(name).exists());
        if let Some(kind) = bundles.matches(&id, &[]).filter(|_| is_sandbox) {
            let bundles = bundles.of(&id)?;
            found.push((kind, id, RustFolders { state, bundles }));
        }
    }
    Ok(found)
}

impl RustFolders {
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    pub(super) fn read(&self, id: &SandboxId) -> Result<MachineAccess, Failure> {
        let file = self.state.join(STATE);
        let state = files::json_if_exists::<SandboxState>(&file)?;
        let hypervisor = state.and_then(|state| state.hypervisor);
        let (pid, netns) = hypervisor.map_or((None, None), |h| (h.pid, h.netns));
        // Dragonball, Firecracker and Cloud Hypervisor; QEMU uses the kernel's vsock.
        let hybrid = self.state.join("root/kata.hvsock");
        let agent = if hybrid.exists() {
            agent::hybrid(hybrid)
        } else {
            agent::of_process(id, pid, &file)?
        };
        let netns = match files::absolute(netns, &file, "netns")? {
            Some(netns) => Some(netns),
            None => self.netns_of_bundle()?,
        };
        let qmp = self.monitor();
        Ok(MachineAccess { qmp, agent, netns })
    }

    fn netns_of_bundle(&self) -> Result<Option<PathBuf>, Failure> {
        match self.bundles.first() {
            Some(bundle) => bundle::netns(bundle),
            None => Ok(None),
        }
    }

    /// Returns the socket in the shim's working directory: the bundle, or the shim's own folder if
    /// it is rootless. Without either it is the latter path, for the error message.
    fn monitor(&self) -> PathBuf {
        let own = self.state.join("root").join(QMP);
        let places = self.bundles.iter().map(|bundle| bundle.join(QMP));
        let mut places = places.chain([own.clone()]);
        places.find(|place| place.exists()).unwrap_or(own)
    }
}
