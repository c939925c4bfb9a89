//! The Go runtime of Kata 2.x and 3.x, and Kata 1.x (openEuler's too), which has the same folders:
//! `vc/sbs/SANDBOX/persist.json`, `vc/sbs/SANDBOX/CONTAINER`, `vc/vm/SANDBOX/qmp.sock`.

use std::fs;
use std::path::{Path, PathBuf};

use patchbay_types::failure::Failure;
use serde::Deserialize;

use super::agent;
use super::bundle::Bundles;
use crate::sandbox::id::{MatchKind, SandboxId};
use crate::sandbox::{MachineAccess, files};

const PERSIST: &str = "persist.json";

/// Used fields of `SandboxState` in virtcontainers' `persist/api`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Persist {
    agent_state: Option<AgentState>,
    network: Option<Network>,
    hypervisor_state: Option<HypervisorState>,
}

#[derive(Deserialize)]
struct AgentState {
    #[serde(rename = "URL")]
    url: Option<String>,
}

#[derive(Deserialize)]
struct Network {
    /// `NetNsPath` in 1.x.
    #[serde(rename = "NetworkID", alias = "NetNsPath")]
    netns: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HypervisorState {
    pid: Option<i64>,
}

/// Folders of one sandbox.
#[derive(Debug)]
pub(in crate::sandbox) struct GoFolders {
    state: PathBuf,
    machine: PathBuf,
}

/// Lists the sandboxes in `vc` that match.
pub(super) fn matching(
    vc: &Path,
    bundles: &Bundles<'_>,
) -> Result<Vec<(MatchKind, SandboxId, GoFolders)>, Failure> {
    let mut found = Vec::new();
    for id in files::ids(&vc.join("sbs"))? {
        let folders = GoFolders {
            state: vc.join("sbs").join(id.as_str()),
            machine: vc.join("vm").join(id.as_str()),
        };
        if !folders.state.join(PERSIST).is_file() {
            continue;
        }
        let mut containers = files::ids(&folders.state)?;
        containers.retain(|container| folders.state.join(container.as_str()).is_dir());
        if let Some(kind) = bundles.matches(&id, &containers) {
            found.push((kind, id, folders));
        }
    }
    Ok(found)
}

impl GoFolders {
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    pub(super) fn read(&self, id: &SandboxId) -> Result<MachineAccess, Failure> {
        let file = self.state.join(PERSIST);
        let persist: Persist = files::json(&file)?;
        let url = persist.agent_state.and_then(|state| state.url);
        let url = url.unwrap_or_default();
        let pid = persist.hypervisor_state.and_then(|state| state.pid);
        let agent = match agent::from_kata(&url, &file)? {
            Some(agent) => agent,
            None => agent::of_process(id, pid, &file)?,
        };
        let netns = persist.network.and_then(|network| network.netns);
        Ok(MachineAccess {
            qmp: self.monitor(),
            agent,
            netns: files::absolute(netns, &file, "NetworkID")?,
        })
    }

    /// Returns the extra monitor if it exists. The shim holds `qmp.sock` from its first hot-plug to
    /// the end of the sandbox, and would hang silently while another client holds it.
    fn monitor(&self) -> PathBuf {
        let extra = self.machine.join("extra-monitor.sock");
        match fs::metadata(&extra) {
            Ok(_) => extra,
            Err(_) => self.machine.join("qmp.sock"),
        }
    }
}
