//! The Rust runtime: `/run/kata/SANDBOX/state.json`, `/run/kata/SANDBOX/shim-monitor.sock`, and a
//! QMP socket in the sandbox's containerd bundle, which was the shim's working directory.

use std::path::{Path, PathBuf};

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::Failure;
use serde::Deserialize;

use super::bundle::{self, Bundles};
use super::{Found, agent};
use crate::sandbox::files;
use crate::sandbox::id::{Id, MatchKind};

const STATE: &str = "state.json";
const QMP: &str = "qmp.sock";

/// `SandboxState` of runtime-rs, as much of it as matters here. Older runtimes with QEMU leave
/// both fields out.
#[derive(Deserialize)]
struct State {
    hypervisor: Option<Hypervisor>,
}

#[derive(Deserialize)]
struct Hypervisor {
    pid: Option<i64>,
    netns: Option<PathBuf>,
}

/// The folders of one sandbox.
#[derive(Debug)]
pub(in crate::sandbox) struct Folders {
    state: PathBuf,
    bundles: Vec<PathBuf>,
}

/// The sandboxes below `root` that are meant.
pub(super) fn matching(
    root: &Path,
    bundles: &Bundles<'_>,
) -> Result<Vec<(MatchKind, Id, Found)>, Failure> {
    let mut found = Vec::new();
    let kata = root.join("run/kata");
    for id in files::ids(&kata)? {
        let state = kata.join(id.as_str());
        let is_sandbox = [STATE, "shim-monitor.sock"]
            .iter()
            .any(|name| state.join(name).exists());
        if let Some(fit) = bundles.fit(&id, &[]).filter(|_| is_sandbox) {
            let bundles = bundles.of(&id)?;
            found.push((fit, id, Found::Rust(Folders { state, bundles })));
        }
    }
    Ok(found)
}

impl Folders {
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn read(&self, id: &Id) -> Result<(PathBuf, Endpoint, Option<PathBuf>), Failure> {
        let file = self.state.join(STATE);
        let state = files::json_if_there::<State>(&file)?;
        let hypervisor = state.and_then(|state| state.hypervisor);
        let (pid, netns) = hypervisor.map_or((None, None), |h| (h.pid, h.netns));
        // Dragonball, Firecracker and Cloud Hypervisor; QEMU uses the kernel's vsock.
        let hybrid = self.state.join("root/kata.hvsock");
        let endpoint = if hybrid.exists() {
            agent::hybrid(hybrid)
        } else {
            agent::of_process(id, pid, &file)?
        };
        let netns = match files::absolute(netns, &file, "netns")? {
            Some(netns) => Some(netns),
            None => self.netns_of_bundle()?,
        };
        Ok((self.monitor(), endpoint, netns))
    }

    fn netns_of_bundle(&self) -> Result<Option<PathBuf>, Failure> {
        match self.bundles.first() {
            Some(bundle) => bundle::netns(bundle),
            None => Ok(None),
        }
    }

    /// Where the shim was started: the bundle, or its own folder when it is rootless. A machine
    /// without either gets the path that should be there, so that its absence is told by name.
    fn monitor(&self) -> PathBuf {
        let own = self.state.join("root").join(QMP);
        let places = self.bundles.iter().map(|bundle| bundle.join(QMP));
        let mut places = places.chain([own.clone()]);
        places.find(|place| place.exists()).unwrap_or(own)
    }
}
