//! containerd's bundles, which name the sandbox of a container.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use patchbay_types::InvalidValue;
use patchbay_types::failure::Failure;
use serde::Deserialize;

use crate::sandbox::files;
use crate::sandbox::id::{MatchKind, SandboxId};

/// Folder with one folder per containerd namespace (`k8s.io`, `default`, `moby`), which holds one
/// bundle per container.
const TASKS: &str = "run/containerd/io.containerd.runtime.v2.task";

/// Folder with one folder per container of CRI-O.
const CRIO_CONTAINERS: &str = "run/containers/storage/overlay-containers";

/// Annotations that name the sandbox of a container: of containerd, of CRI-O, and of dockershim and
/// iSulad.
const SANDBOX_ID_KEYS: [&str; 3] = [
    "io.kubernetes.cri.sandbox-id",
    "io.kubernetes.cri-o.SandboxID",
    "io.kubernetes.sandbox.id",
];

/// Used fields of an OCI runtime specification.
#[derive(Deserialize)]
struct Specification {
    #[serde(default)]
    annotations: HashMap<String, String>,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<OciNamespace>,
}

#[derive(Deserialize)]
struct OciNamespace {
    r#type: String,
    path: Option<PathBuf>,
}

/// Containers whose id matches.
#[derive(Debug)]
pub(super) struct Bundles<'a> {
    tasks: PathBuf,
    wanted: Option<&'a SandboxId>,
    /// Each with its sandbox.
    containers: Vec<(SandboxId, SandboxId)>,
}

impl<'a> Bundles<'a> {
    pub(super) fn below(root: &Path, wanted: Option<&'a SandboxId>) -> Result<Self, Failure> {
        let tasks = root.join(TASKS);
        let mut containers = Vec::new();
        // All sandboxes are wanted: no container decides.
        let namespaces = wanted.map_or_else(|| Ok(Vec::new()), |_| files::ids(&tasks))?;
        for namespace in namespaces {
            let folder = tasks.join(namespace.as_str());
            for container in files::ids(&folder)? {
                if container.matches(wanted).is_some() {
                    let config = folder.join(container.as_str()).join("config.json");
                    let sandbox = sandbox_of(&config)?;
                    containers.extend(sandbox.map(|sandbox| (container, sandbox)));
                }
            }
        }
        Ok(Self {
            tasks,
            wanted,
            containers,
        })
    }

    /// Returns the best match of the sandbox's own id, of `containers`, and of the containers whose
    /// bundle names the sandbox.
    pub(super) fn matches(
        &self,
        sandbox: &SandboxId,
        containers: &[SandboxId],
    ) -> Option<MatchKind> {
        let bundled = self.containers.iter().filter(|(_, of)| of == sandbox);
        [sandbox]
            .into_iter()
            .chain(containers)
            .chain(bundled.map(|(container, _)| container))
            .filter_map(|id| id.matches(self.wanted))
            .max()
    }

    /// Lists the bundles of the sandbox itself; several only if containerd's namespaces share an id.
    pub(super) fn of(&self, sandbox: &SandboxId) -> Result<Vec<PathBuf>, Failure> {
        bundles(&self.tasks, sandbox)
    }
}

fn bundles(tasks: &Path, sandbox: &SandboxId) -> Result<Vec<PathBuf>, Failure> {
    let namespaces = files::ids(tasks)?.into_iter();
    let mut bundles = Vec::new();
    for namespace in namespaces {
        let folder = tasks.join(namespace.as_str()).join(sandbox.as_str());
        if files::is_folder(&folder)? {
            bundles.push(folder);
        }
    }
    Ok(bundles)
}

/// Returns an annotation of a sandbox, which containerd and CRI-O pass on to its runtime.
pub(super) fn annotation(
    root: &Path,
    sandbox: &SandboxId,
    key: &str,
) -> Result<Option<String>, Failure> {
    let mut bundles = bundles(&root.join(TASKS), sandbox)?;
    let of_crio = root.join(CRIO_CONTAINERS).join(sandbox.as_str());
    bundles.push(of_crio.join("userdata"));
    for bundle in bundles {
        let config = bundle.join("config.json");
        let specification = files::json_if_exists::<Specification>(&config)?;
        let value = specification.and_then(|mut found| found.annotations.remove(key));
        if value.is_some() {
            return Ok(value);
        }
    }
    Ok(None)
}

/// Returns the sandbox that a container belongs to; `None` if the container is a sandbox itself or
/// has ended meanwhile.
fn sandbox_of(config: &Path) -> Result<Option<SandboxId>, Failure> {
    let Some(specification) = files::json_if_exists::<Specification>(config)? else {
        return Ok(None);
    };
    let named = SANDBOX_ID_KEYS
        .iter()
        .find_map(|key| Some((key, specification.annotations.get(*key)?)));
    let Some((key, sandbox)) = named else {
        return Ok(None);
    };
    let id = sandbox.parse().map(Some);
    id.map_err(|invalid: InvalidValue| {
        Failure::from(invalid.in_field(*key)).context(format!("could not use {}", config.display()))
    })
}

/// Returns the network namespace of a bundle's processes.
pub(super) fn netns(bundle: &Path) -> Result<Option<PathBuf>, Failure> {
    let config = bundle.join("config.json");
    let specification = files::json_if_exists::<Specification>(&config)?;
    let namespaces = specification
        .and_then(|specification| specification.linux)
        .map(|linux| linux.namespaces)
        .unwrap_or_default();
    let network = namespaces
        .into_iter()
        .find(|namespace| namespace.r#type == "network");
    let path = network.and_then(|namespace| namespace.path);
    files::absolute(path, &config, "linux.namespaces")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn annotation_is_that_of_the_sandbox_by_containerd_or_crio() {
        let root = tempfile::tempdir().unwrap();
        let write = |folder: String, key: &str, value: &str| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            let text = format!(r#"{{"annotations":{{"{key}":"{value}"}}}}"#);
            fs::write(folder.join("config.json"), text).unwrap();
        };
        let id: SandboxId = "6ec7a98b".parse().unwrap();
        let value = |key: &str| annotation(root.path(), &id, key).unwrap();
        assert_eq!(value("a/b"), None);
        write(format!("{TASKS}/moby/77aa0c1d"), "a/b", "other");
        write(format!("{TASKS}/moby/{id}"), "a/b", "one");
        assert_eq!(value("a/b").as_deref(), Some("one"));
        write(format!("{CRIO_CONTAINERS}/{id}/userdata"), "c/d", "two");
        assert_eq!(value("c/d").as_deref(), Some("two"));
        assert_eq!(value("e/f"), None);
    }
}
