//! Sandboxes that are registered in our own run directory.

use std::path::{Path, PathBuf};

use patchbay_types::InvalidValue;
use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::Failure;
use serde::Deserialize;

use super::files;
use super::id::{Id, MatchKind};

/// What registers a sandbox in its folder of the run directory.
const FILE: &str = "sandbox.json";

#[derive(Deserialize)]
struct SandboxFile {
    qmp: PathBuf,
    agent: String,
    netns: Option<PathBuf>,
}

/// The registered sandboxes that are meant.
pub(super) fn matching(run_dir: &Path, wanted: &Id) -> Result<Vec<(MatchKind, Id)>, Failure> {
    let mut found = Vec::new();
    for id in files::ids(run_dir)? {
        if let Some(fit) = id.fit(wanted)
            && run_dir.join(id.as_str()).join(FILE).is_file()
        {
            found.push((fit, id));
        }
    }
    Ok(found)
}

/// How the sandbox in this folder is reached: QMP socket, agent, network namespace.
pub(super) fn read(folder: &Path) -> Result<(PathBuf, Endpoint, Option<PathBuf>), Failure> {
    let file: SandboxFile = files::json(&folder.join(FILE))?;
    let agent = file.agent.parse();
    let agent = agent.map_err(|bad: InvalidValue| Failure::from(bad.in_field("agent")))?;
    Ok((file.qmp, agent, file.netns))
}
