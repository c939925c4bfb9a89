//! Choosing kernel modules: the wanted ones and everything they depend on, in loading order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use goblin::elf::Elf;

/// Loaded at boot: the PCI transport, network cards, and the way to the host.
pub const BOOT: [&str; 3] = ["virtio_pci", "virtio_net", "vmw_vsock_virtio_transport"];

/// In the image for the agent to load when they are asked for. The IPVS schedulers come with it.
pub const ON_DEMAND: [&str; 3] = ["ip_vs", "nf_conntrack", "nf_conntrack_netlink"];

/// For trying vsock inside of one guest, and for conntrack to make flows that are translated; only
/// beside the tools. What they depend on is in the base.
pub const WITH_TOOLS: [&str; 2] = ["vsock_loopback", "nf_nat"];

const IPVS_SCHEDULER_PREFIX: &str = "ip_vs_";

/// A module that can't be put into the image.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The kernel package doesn't hold it.
    #[error("The kernel package has no module {0}.")]
    Unknown(String),
    /// Modules that need each other can't be ordered.
    #[error("The module {0} depends on itself.")]
    Cycle(String),
    /// The file isn't an ELF file with a `.modinfo` section.
    #[error("The module file {} is malformed.", .0.display())]
    Malformed(PathBuf),
    /// The file or folder can't be read.
    #[error("{} can't be read.", .path.display())]
    Unreadable {
        /// What can't be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The modules of one kernel package by name.
#[derive(Debug)]
pub struct ModuleIndex {
    paths: BTreeMap<String, PathBuf>,
}

impl ModuleIndex {
    /// Finds every module file below `folder`.
    pub fn scan(folder: &Path) -> Result<Self, ModuleError> {
        let mut paths = BTreeMap::new();
        scan_into(folder, &mut paths).map_err(|source| ModuleError::Unreadable {
            path: folder.to_owned(),
            source,
        })?;
        Ok(Self { paths })
    }

    /// Where the module's file lies.
    pub fn path(&self, name: &str) -> Result<&Path, ModuleError> {
        self.paths
            .get(name)
            .map(PathBuf::as_path)
            .ok_or_else(|| ModuleError::Unknown(name.to_owned()))
    }

    /// The IPVS scheduler modules (and its FTP and SIP helpers).
    pub fn ipvs_family(&self) -> impl Iterator<Item = &str> {
        self.paths
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with(IPVS_SCHEDULER_PREFIX))
    }

    /// The names that the module's own file says it depends on.
    pub fn depends(&self, name: &str) -> Result<Vec<String>, ModuleError> {
        let path = self.path(name)?;
        let bytes = fs::read(path).map_err(|source| ModuleError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        depends_of(&bytes).ok_or_else(|| ModuleError::Malformed(path.to_owned()))
    }
}

fn scan_into(folder: &Path, paths: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            scan_into(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "ko")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
        {
            paths.insert(canonical(stem), path);
        }
    }
    Ok(())
}

/// The kernel treats `-` and `_` in module names as one.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// Reads the `depends=` entry of the section `.modinfo`; `None` when there is none.
pub(crate) fn depends_of(module: &[u8]) -> Option<Vec<String>> {
    let elf = Elf::parse(module).ok()?;
    let section = elf
        .section_headers
        .iter()
        .find(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(".modinfo"))?;
    let info = module.get(section.file_range()?)?;
    let depends = info
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"depends="))?;
    let names = std::str::from_utf8(depends).ok()?.split(',');
    Some(
        names
            .filter(|name| !name.is_empty())
            .map(canonical)
            .collect(),
    )
}

/// `wanted` and all they depend on, each after what it needs, each once.
pub fn loading_order<'a>(
    wanted: impl IntoIterator<Item = &'a str>,
    depends: impl Fn(&str) -> Result<Vec<String>, ModuleError>,
) -> Result<Vec<String>, ModuleError> {
    let mut order = Order {
        depends,
        done: Vec::new(),
        seen: BTreeSet::new(),
        open: Vec::new(),
    };
    for name in wanted {
        order.visit(name)?;
    }
    Ok(order.done)
}

struct Order<F> {
    depends: F,
    done: Vec<String>,
    seen: BTreeSet<String>,
    open: Vec<String>,
}

impl<F: Fn(&str) -> Result<Vec<String>, ModuleError>> Order<F> {
    fn visit(&mut self, name: &str) -> Result<(), ModuleError> {
        if self.open.iter().any(|above| above == name) {
            return Err(ModuleError::Cycle(name.to_owned()));
        }
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        self.open.push(name.to_owned());
        for needed in (self.depends)(name)? {
            self.visit(&needed)?;
        }
        self.open.pop();
        self.done.push(name.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depends(name: &str) -> Result<Vec<String>, ModuleError> {
        let needed: &[&str] = match name {
            "virtio" | "crc" | "ring" => &[],
            "pci" => &["ring", "virtio"],
            "net" => &["virtio", "ring"],
            "a" => &["b"],
            "b" => &["a"],
            other => return Err(ModuleError::Unknown(other.to_owned())),
        };
        Ok(needed.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let order = loading_order(["pci", "net", "crc"], depends).unwrap();
        assert_eq!(order, ["ring", "virtio", "pci", "net", "crc"]);
    }

    #[test]
    fn unknown_module_is_named() {
        let error = loading_order(["net", "nothing"], depends).unwrap_err();
        assert!(matches!(error, ModuleError::Unknown(name) if name == "nothing"));
    }

    #[test]
    fn cycle_is_named() {
        let error = loading_order(["a"], depends).unwrap_err();
        assert!(matches!(error, ModuleError::Cycle(name) if name == "a"));
    }

    #[test]
    fn scan_finds_modules_by_canonical_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("net")).unwrap();
        fs::write(folder.path().join("net/nf-nat.ko"), b"").unwrap();
        fs::write(folder.path().join("net/README"), b"").unwrap();
        let index = ModuleIndex::scan(folder.path()).unwrap();
        assert!(index.path("nf_nat").unwrap().ends_with("net/nf-nat.ko"));
        let error = index.depends("nf_nat").unwrap_err();
        assert!(matches!(error, ModuleError::Malformed(path) if path.ends_with("nf-nat.ko")));
    }
}
