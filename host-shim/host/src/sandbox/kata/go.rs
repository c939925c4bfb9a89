//! The Go runtime of Kata 2.x and 3.x, and Kata 1.x (openEuler's too), which has the same folders:
//! `vc/sbs/SANDBOX/persist.json`, `vc/sbs/SANDBOX/CONTAINER`, `vc/vm/SANDBOX/qmp.sock`.

use std::path::{Path, PathBuf};

use patchbay_types::failure::Failure;
use serde::Deserialize;

use super::bundle::Bundles;
use super::{KataRuntime, agent};
use crate::sandbox::id::{Candidate, Origin, SandboxId};
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

/// Lists the sandboxes in `vc` that match.
pub(super) fn matching(vc: &Path, bundles: &Bundles<'_>) -> Result<Vec<Candidate>, Failure> {
    let mut found = Vec::new();
    for id in files::ids(&vc.join("sbs"))? {
        let folder = vc.join("sbs").join(id.as_str());
        if !files::exists(&folder.join(PERSIST))? {
            continue;
        }
        let mut containers = Vec::new();
        for container in files::ids(&folder)? {
            if files::is_folder(&folder.join(container.as_str()))? {
                containers.push(container);
            }
        }
        if let Some(kind) = bundles.matches(&id, &containers) {
            let machine = vc.join("vm").join(id.as_str());
            found.push(Candidate {
                kind,
                id,
                folder,
                origin: Origin::Kata(KataRuntime::Go(machine)),
            });
        }
    }
    Ok(found)
}

/// Reads how a sandbox is reached.
pub(super) fn read(
    folder: &Path,
    machine: &Path,
    id: &SandboxId,
) -> Result<MachineAccess, Failure> {
    let file = folder.join(PERSIST);
    let persist: Persist = files::json(&file)?;
    let url = persist.agent_state.and_then(|state| state.url);
    let pid = persist.hypervisor_state.and_then(|state| state.pid);
    let agent = match agent::from_kata(&url.unwrap_or_default(), &file)? {
        Some(agent) => agent,
        None => agent::of_process(id, pid, &file)?,
    };
    let netns = persist.network.and_then(|network| network.netns);
    // The shim holds `qmp.sock` from its first hot-plug to the end of the sandbox, and would hang
    // silently while another client holds it.
    let extra = machine.join("extra-monitor.sock");
    let has_extra = files::exists(&extra)?;
    Ok(MachineAccess {
        qmp: if has_extra {
            extra
        } else {
            machine.join("qmp.sock")
        },
        agent,
        netns: files::absolute(netns, &file, "NetworkID")?,
    })
}
