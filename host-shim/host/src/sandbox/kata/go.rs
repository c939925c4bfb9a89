//! The Go runtime of Kata 2.x and 3.x, and Kata 1.x (openEuler's too), which has the same folders:
//! `vc/sbs/SANDBOX/persist.json`, `vc/sbs/SANDBOX/CONTAINER`, `vc/vm/SANDBOX/qmp.sock`.

use std::fs;
use std::path::{Path, PathBuf};

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::Failure;
use serde::Deserialize;

use super::bundle::Bundles;
use super::{Found, agent};
use crate::sandbox::files;
use crate::sandbox::id::{Id, MatchKind};

const PERSIST: &str = "persist.json";

/// `SandboxState` of virtcontainers' `persist/api`, as much of it as matters here.
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
    /// 1.x calls it otherwise.
    #[serde(rename = "NetworkID", alias = "NetNsPath")]
    netns: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HypervisorState {
    pid: Option<i64>,
}

/// The folders of one sandbox.
#[derive(Debug)]
pub(in crate::sandbox) struct Folders {
    state: PathBuf,
    machine: PathBuf,
}

/// The sandboxes in `vc` that are meant.
pub(super) fn matching(
    vc: &Path,
    bundles: &Bundles<'_>,
) -> Result<Vec<(MatchKind, Id, Found)>, Failure> {
    let mut found = Vec::new();
    for id in files::ids(&vc.join("sbs"))? {
        let folders = Folders {
            state: vc.join("sbs").join(id.as_str()),
            machine: vc.join("vm").join(id.as_str()),
        };
        if !folders.state.join(PERSIST).is_file() {
            continue;
        }
        let mut containers = files::ids(&folders.state)?;
        containers.retain(|container| folders.state.join(container.as_str()).is_dir());
        if let Some(fit) = bundles.fit(&id, &containers) {
            found.push((fit, id, Found::Go(folders)));
        }
    }
    Ok(found)
}

impl Folders {
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn read(&self, id: &Id) -> Result<(PathBuf, Endpoint, Option<PathBuf>), Failure> {
        let file = self.state.join(PERSIST);
        let persist: Persist = files::json(&file)?;
        let url = persist.agent_state.and_then(|state| state.url);
        let url = url.unwrap_or_default();
        let pid = persist.hypervisor_state.and_then(|state| state.pid);
        let endpoint = match agent::from_kata(&url, &file)? {
            Some(endpoint) => endpoint,
            None => agent::of_process(id, pid, &file)?,
        };
        let netns = persist.network.and_then(|network| network.netns);
        Ok((
            self.monitor(),
            endpoint,
            files::absolute(netns, &file, "NetworkID")?,
        ))
    }

    /// The extra monitor where there is one: the shim holds the other, from its first hot-plug to
    /// the sandbox's end, and would hang without a word while we had it.
    fn monitor(&self) -> PathBuf {
        let extra = self.machine.join("extra-monitor.sock");
        match fs::metadata(&extra) {
            Ok(_) => extra,
            Err(_) => self.machine.join("qmp.sock"),
        }
    }
}
