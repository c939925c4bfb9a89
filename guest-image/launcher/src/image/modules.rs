//! Choosing kernel modules: the wanted ones and everything they depend on, in loading order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use goblin::elf::Elf;
use xz4rust::XzReader;

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
    /// The file isn't an ELF file with a `.modinfo` section, or not what its compression says.
    #[error("The module file {} is malformed.", .0.display())]
    Malformed(PathBuf),
    /// The file or folder can't be read or written.
    #[error("{} can't be read or written.", .path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The list of modules that the kernel has in itself, in depmod's and the package's format.
const BUILT_IN: &str = "modules.builtin";
const COMPRESSED: &str = "xz";

/// The modules of one kernel package by name.
#[derive(Debug, Default)]
pub struct ModuleIndex {
    paths: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl ModuleIndex {
    /// Finds every module file below `folder`.
    pub fn scan(folder: &Path) -> Result<Self, ModuleError> {
        let mut index = Self::default();
        for path in files_below(folder).map_err(unusable(folder))? {
            if let Some(name) = module_name(&path) {
                index.paths.insert(name, path);
            } else if path.ends_with(BUILT_IN) {
                let list = fs::read_to_string(&path).map_err(unusable(&path))?;
                let names = list.lines().map(Path::new).filter_map(module_name);
                index.built_in.extend(names);
            }
        }
        Ok(index)
    }

    /// Those of the names that are files: one kernel has in itself what another loads.
    #[must_use]
    pub fn files<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        let is_file = |name: &&&str| !self.built_in.contains(**name);
        names.iter().filter(is_file).copied().collect()
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
        let bytes = fs::read(path).map_err(unusable(path))?;
        depends_of(&bytes).ok_or_else(|| ModuleError::Malformed(path.to_owned()))
    }
}

/// Makes plain files of the compressed modules below `folder`: the guest's init and agent then load
/// those of every package alike.
pub fn unpack(folder: &Path) -> Result<(), ModuleError> {
    for path in files_below(folder).map_err(unusable(folder))? {
        if path
            .extension()
            .is_none_or(|extension| extension != COMPRESSED)
        {
            continue;
        }
        let file = File::open(&path).map_err(unusable(&path))?;
        let mut content = Vec::new();
        XzReader::new(file)
            .read_to_end(&mut content)
            .map_err(|_| ModuleError::Malformed(path.clone()))?;
        let plain = path.with_extension("");
        fs::write(&plain, content).map_err(unusable(&plain))?;
        fs::remove_file(&path).map_err(unusable(&path))?;
    }
    Ok(())
}

fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> ModuleError + use<> {
    let path = path.to_owned();
    move |source| ModuleError::Unusable { path, source }
}

fn module_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    path.extension()
        .is_some_and(|extension| extension == "ko")
        .then(|| canonical(stem))
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

    #[test]
    fn what_a_kernel_has_in_itself_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("6.12")).unwrap();
        let list = "kernel/drivers/virtio/virtio-pci.ko\n";
        fs::write(folder.path().join("6.12/modules.builtin"), list).unwrap();
        let index = ModuleIndex::scan(folder.path()).unwrap();
        assert_eq!(index.files(&["virtio_pci", "ip_vs"]), ["ip_vs"]);
    }

    /// `printf 'a module' | xz --check=crc32 --lzma2=dict=1MiB`, as the kernel's build has it.
    const XZ: [u8; 60] = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00, 0x21,
        0x01, 0x10, 0x00, 0x00, 0x00, 0xa8, 0x70, 0x8e, 0x86, 0x01, 0x00, 0x07, 0x61, 0x20, 0x6d,
        0x6f, 0x64, 0x75, 0x6c, 0x65, 0x00, 0x5b, 0xc1, 0x38, 0x0b, 0x00, 0x01, 0x1c, 0x08, 0x44,
        0x60, 0x2a, 0xc8, 0x90, 0x42, 0x99, 0x0d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0x59, 0x5a,
    ];

    #[test]
    fn compressed_modules_become_plain_files() {
        let folder = tempfile::tempdir().unwrap();
        let [plain, packed] = ["a.ko", "a.ko.xz"].map(|name| folder.path().join(name));
        fs::write(&packed, XZ).unwrap();
        unpack(folder.path()).unwrap();
        assert_eq!(fs::read(&plain).unwrap(), b"a module");
        assert!(!packed.exists());
    }

    #[test]
    fn a_module_that_is_cut_short_or_altered_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let packed = folder.path().join("a.ko.xz");
        let mut altered = XZ;
        altered[30] ^= 1;
        for bytes in [&XZ[..40], &altered] {
            fs::write(&packed, bytes).unwrap();
            let error = unpack(folder.path()).unwrap_err();
            assert!(matches!(error, ModuleError::Malformed(path) if path == packed));
        }
    }
}
