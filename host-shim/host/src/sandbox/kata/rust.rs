//! The Rust runtime: `/run/kata/SANDBOX/state.json`, `/run/kata/SANDBOX/shim-monitor.sock`, and a
//! QMP socket in the sandbox's containerd bundle, which was the shim's working directory.

use std::path::{Path, PathBuf};

use patchbay_types::endpoint::{EARLIER_PORT, Endpoint};
use patchbay_types::failure::Failure;
use serde::Deserialize;

use super::bundle::{self, Bundles};
use super::{KataRuntime, agent};
use crate::sandbox::id::{Candidate, Origin, SandboxId};
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

/// Lists the sandboxes below `root` that match.
pub(super) fn matching(root: &Path, bundles: &Bundles<'_>) -> Result<Vec<Candidate>, Failure> {
    let mut found = Vec::new();
    let kata = root.join("run/kata");
    for id in files::ids(&kata)? {
        let folder = kata.join(id.as_str());
        let is_sandbox = files::exists(&folder.join(STATE))?
            || files::exists(&folder.join("shim-monitor.sock"))?;
        if let Some(kind) = bundles.matches(&id, &[]).filter(|_| is_sandbox) {
            found.push(Candidate {
                kind,
                origin: Origin::Kata(KataRuntime::Rust(bundles.of(&id)?)),
                id,
                folder,
            });
        }
    }
    Ok(found)
}

/// Reads how a sandbox is reached.
pub(super) fn read(
    folder: &Path,
    bundles: &[PathBuf],
    id: &SandboxId,
) -> Result<MachineAccess, Failure> {
    let file = folder.join(STATE);
    let state = files::json_if_exists::<SandboxState>(&file)?;
    let hypervisor = state.and_then(|state| state.hypervisor);
    let (pid, netns) = hypervisor.map_or((None, None), |h| (h.pid, h.netns));
    // Dragonball, Firecracker and Cloud Hypervisor; QEMU uses the kernel's vsock.
    let hybrid = folder.join("root/kata.hvsock");
    let agent = if files::exists(&hybrid)? {
        let (path, port) = (hybrid, EARLIER_PORT);
        Endpoint::Hybrid { path, port }
    } else {
        agent::of_process(id, pid, &file)?
    };
    let netns = match (files::absolute(netns, &file, "netns")?, bundles.first()) {
        (None, Some(bundle)) => bundle::netns(bundle)?,
        (netns, _) => netns,
    };
    // In the shim's working directory: the bundle, or the shim's own folder if it is rootless.
    // Without either it is the latter path, for the error message.
    let own = folder.join("root").join(QMP);
    let mut in_bundles = bundles.iter().map(|bundle| bundle.join(QMP));
    let qmp = in_bundles.find(|path| path.exists()).unwrap_or(own);
    Ok(MachineAccess { qmp, agent, netns })
}
