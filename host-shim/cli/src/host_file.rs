//! Settings of the host for the programs that Kubernetes starts, which take no options: the CNI plugin
//! and the wrapper of QEMU.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use patchbay_host::interrupt::Interrupt;
use patchbay_host::sandbox::{DEFAULT_RUN_DIR, Lookup, json_if_exists};
use patchbay_types::QueuePairs;
use patchbay_types::failure::Failure;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Contents of the file; each member is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HostFile {
    /// Run directory.
    run_dir: Option<PathBuf>,
    /// Roots of Kata's run directories.
    #[serde(default)]
    kata_roots: Vec<PathBuf>,
    /// Maximum number of queue pairs that the plugin accepts.
    #[serde(default, deserialize_with = "queues")]
    pub(crate) max_queues: Option<QueuePairs>,
    /// QEMU that the wrapper runs.
    pub(crate) qemu: Option<PathBuf>,
    /// Number of root ports that the wrapper adds.
    pub(crate) ports: Option<u8>,
}

impl HostFile {
    const PATH: &str = "/etc/patchbay/cni.json";

    /// Reads the file; a missing one has no settings.
    ///
    /// # Errors
    /// A file that can't be read or has members of other types.
    pub(crate) fn read() -> Result<Self, Failure> {
        let path = std::env::var_os("PATCHBAY_HOST_FILE");
        let path = path.as_deref().map_or(Path::new(Self::PATH), Path::new);
        Ok(json_if_exists(path)?.unwrap_or_default())
    }

    /// Returns the places to look for sandboxes; the environment takes precedence.
    pub(crate) fn lookup(&self, interrupt: Interrupt) -> Lookup {
        let roots = std::env::var_os("PATCHBAY_KATA_ROOTS");
        let roots = roots.map(|roots| std::env::split_paths(&roots).collect());
        Lookup {
            run_dir: self.run_dir(),
            kata_roots: roots.unwrap_or_else(|| self.kata_roots.clone()),
            machine: None,
            named: BTreeMap::new(),
            interrupt,
        }
    }

    /// Returns the run directory; the environment takes precedence.
    pub(crate) fn run_dir(&self) -> PathBuf {
        let variable = std::env::var_os("PATCHBAY_RUN_DIR").map(PathBuf::from);
        let configured = variable.or_else(|| self.run_dir.clone());
        configured.unwrap_or_else(|| DEFAULT_RUN_DIR.into())
    }
}

fn queues<'de, D: Deserializer<'de>>(from: D) -> Result<Option<QueuePairs>, D::Error> {
    let pairs = Option::<u64>::deserialize(from)?;
    pairs
        .map(|pairs| QueuePairs::try_from(pairs).map_err(D::Error::custom))
        .transpose()
}
