//! containerd's bundles: which sandbox a container is in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use patchbay_types::InvalidValue;
use patchbay_types::failure::Failure;
use serde::Deserialize;

use crate::sandbox::files;
use crate::sandbox::id::{Id, MatchKind};

/// A folder for each of containerd's namespaces (`k8s.io`, `default`, `moby`), in which each
/// container has its bundle.
const TASKS: &str = "run/containerd/io.containerd.runtime.v2.task";

/// Where container runtimes write the sandbox of a container: containerd, CRI-O, dockershim and
/// iSulad.
const SANDBOX_ID: [&str; 3] = [
    "io.kubernetes.cri.sandbox-id",
    "io.kubernetes.cri-o.SandboxID",
    "io.kubernetes.sandbox.id",
];

/// An OCI runtime specification, as much of it as matters here.
#[derive(Deserialize)]
struct Specification {
    #[serde(default)]
    annotations: HashMap<String, String>,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    r#type: String,
    path: Option<PathBuf>,
}

/// What the bundles say of the id that was given.
#[derive(Debug)]
pub(super) struct Bundles<'a> {
    tasks: PathBuf,
    wanted: &'a Id,
    /// Containers that are meant, each with its sandbox.
    containers: Vec<(Id, Id)>,
}

impl<'a> Bundles<'a> {
    pub(super) fn below(root: &Path, wanted: &'a Id) -> Result<Self, Failure> {
        let tasks = root.join(TASKS);
        let mut containers = Vec::new();
        for namespace in files::ids(&tasks)? {
            let folder = tasks.join(namespace.as_str());
            for container in files::ids(&folder)? {
                if container.fit(wanted).is_some() {
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

    /// How well a sandbox is meant: by its own id, by those of `containers`, or by that of a
    /// container of which a bundle says that it is in there.
    pub(super) fn fit(&self, sandbox: &Id, containers: &[Id]) -> Option<MatchKind> {
        let told = self.containers.iter().filter(|(_, of)| of == sandbox);
        [sandbox]
            .into_iter()
            .chain(containers)
            .chain(told.map(|(container, _)| container))
            .filter_map(|id| id.fit(self.wanted))
            .max()
    }

    /// The bundles of a sandbox itself; more than one only if containerd's namespaces share an id.
    pub(super) fn of(&self, sandbox: &Id) -> Result<Vec<PathBuf>, Failure> {
        let namespaces = files::ids(&self.tasks)?.into_iter();
        let folders = namespaces.map(|name| self.tasks.join(name.as_str()).join(sandbox.as_str()));
        Ok(folders.filter(|folder| folder.is_dir()).collect())
    }
}

/// `None`: the container is a sandbox itself, or its specification has gone meanwhile.
fn sandbox_of(config: &Path) -> Result<Option<Id>, Failure> {
    let Some(specification) = files::json_if_there::<Specification>(config)? else {
        return Ok(None);
    };
    let named = SANDBOX_ID
        .iter()
        .find_map(|key| Some((key, specification.annotations.get(*key)?)));
    let Some((key, sandbox)) = named else {
        return Ok(None);
    };
    let bad = |bad: InvalidValue| {
        Failure::from(bad.in_field(*key)).context(format!("could not use {}", config.display()))
    };
    Id::parse(sandbox).map(Some).map_err(bad)
}

/// The network namespace in which a bundle's processes run.
pub(super) fn netns(bundle: &Path) -> Result<Option<PathBuf>, Failure> {
    let config = bundle.join("config.json");
    let specification = files::json_if_there::<Specification>(&config)?;
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
