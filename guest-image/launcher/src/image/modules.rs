//! Selects kernel modules with their dependencies by depmod's index, `modules.dep`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use patchbay_init::BOOT_MODULES;
use patchbay_netcfg::modules::files_of;
use xz4rust::XzReader;

use super::archive::Archive;
use crate::error::{Error, at};

/// Loaded by the agent on demand. Schedulers are found by [`IPVS_PREFIX`].
const ON_DEMAND: [&str; 3] = ["ip_vs", "nf_conntrack", "nf_conntrack_netlink"];
const IPVS_PREFIX: &str = "ip_vs_";

/// For tests only: vsock within one guest, and flows with translated addresses.
const FOR_TOOLS: [&str; 2] = ["vsock_loopback", "nf_nat"];

/// Modules of one kernel release.
#[derive(Debug)]
pub(super) struct KernelModules {
    folder: PathBuf,
    /// `modules.dep`: one row `file: dependency dependency` per module.
    index: String,
    /// `modules.builtin`: one path per module that is part of the kernel.
    builtin: String,
}

impl KernelModules {
    /// Reads depmod's index in `folder`, which is named after the kernel release.
    pub(super) fn open(folder: PathBuf) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(at(&path))
        };
        Ok(Self {
            index: read("modules.dep")?,
            builtin: read("modules.builtin")?,
            folder,
        })
    }

    /// Adds the modules of every sandbox, and an index of them for the agent and for init.
    pub(super) fn add_base(&self, archive: &mut Archive) -> Result<(), Error> {
        let files = self.base()?;
        self.add(archive, &files)?;
        let mut index = String::new();
        for row in self.index.lines() {
            if row
                .split_once(':')
                .is_some_and(|(file, _)| files.contains(file))
            {
                index += &row.replace(".ko.xz", ".ko");
                index.push('\n');
            }
        }
        archive.file(&self.guest_path("modules.dep"), index.into_bytes());
        Ok(())
    }

    /// Adds the further modules of sandboxes with tools.
    pub(super) fn add_for_tools(&self, archive: &mut Archive) -> Result<(), Error> {
        let all = self.select(FOR_TOOLS)?;
        self.add(archive, &(&all - &self.base()?))
    }

    fn base(&self) -> Result<BTreeSet<String>, Error> {
        let files = self.index.lines().filter_map(|row| row.split_once(':'));
        let names: Vec<String> = files.map(|(file, _)| module_name(file)).collect();
        let ipvs = names.iter().filter(|name| name.starts_with(IPVS_PREFIX));
        let fixed = BOOT_MODULES.into_iter().chain(ON_DEMAND);
        self.select(fixed.chain(ipvs.map(String::as_str)))
    }

    /// Returns the files of these modules and of all their dependencies, relative to the folder.
    fn select<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<BTreeSet<String>, Error> {
        let mut files = BTreeSet::new();
        for name in names {
            match files_of(&self.index, name) {
                Some(found) => files.extend(found),
                None if self.builtin.lines().any(|file| module_name(file) == name) => {}
                None => return Err(Error::MissingModule(name.to_owned())),
            }
        }
        Ok(files)
    }

    /// Adds files uncompressed: not every kernel decompresses modules, and emulated it takes long.
    fn add(&self, archive: &mut Archive, files: &BTreeSet<String>) -> Result<(), Error> {
        for file in files {
            let path = self.folder.join(file);
            let plain = file.strip_suffix(".xz");
            let mut content = Vec::new();
            let read = File::open(&path).and_then(|mut file| match plain {
                None => file.read_to_end(&mut content),
                Some(_) => XzReader::new(file).read_to_end(&mut content),
            });
            read.map_err(at(&path))?;
            archive.file(&self.guest_path(plain.unwrap_or(file)), content);
        }
        Ok(())
    }

    fn guest_path(&self, file: &str) -> String {
        let release = self.folder.file_name().unwrap_or_default();
        format!("/lib/modules/{}/{file}", release.display())
    }
}

/// Returns the module's name as the kernel shows it, with `_` for `-`.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    let stem = base.split(".ko").next().unwrap_or(base);
    stem.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf 'a module' | xz --check=crc32 --lzma2=dict=1MiB`, as in the kernel's build.
    const XZ: [u8; 60] = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00, 0x21,
        0x01, 0x10, 0x00, 0x00, 0x00, 0xa8, 0x70, 0x8e, 0x86, 0x01, 0x00, 0x07, 0x61, 0x20, 0x6d,
        0x6f, 0x64, 0x75, 0x6c, 0x65, 0x00, 0x5b, 0xc1, 0x38, 0x0b, 0x00, 0x01, 0x1c, 0x08, 0x44,
        0x60, 0x2a, 0xc8, 0x90, 0x42, 0x99, 0x0d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0x59, 0x5a,
    ];

    const INDEX: &str = "k/ring.ko:\nk/virtio-pci.ko: k/virtio.ko k/ring.ko\nk/virtio.ko: k/ring.ko\n\
                         k/virtio_net.ko.xz: k/virtio.ko k/ring.ko\nk/ip_vs.ko:\nk/ip_vs_rr.ko: k/ip_vs.ko\n\
                         k/nf_nat.ko: k/ring.ko\nk/other.ko:\n";
    const BUILTIN: &str = "k/vmw_vsock_virtio_transport.ko\nk/nf-conntrack.ko\n\
                           k/nf_conntrack_netlink.ko\nk/vsock_loopback.ko\n";

    /// Kernel package whose plain modules are empty.
    fn package(index: &str, xz: &[u8]) -> (tempfile::TempDir, KernelModules) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("6.12");
        fs::create_dir_all(folder.join("k")).unwrap();
        for row in index.lines() {
            let (file, _) = row.split_once(':').unwrap();
            let content = if file.contains(".ko.xz") { xz } else { b"" };
            fs::write(folder.join(file), content).unwrap();
        }
        fs::write(folder.join("modules.dep"), index).unwrap();
        fs::write(folder.join("modules.builtin"), BUILTIN).unwrap();
        let modules = KernelModules::open(folder).unwrap();
        (root, modules)
    }

    fn unpacked(fill: impl FnOnce(&mut Archive) -> Result<(), Error>) -> tempfile::TempDir {
        let mut archive = Archive::default();
        fill(&mut archive).unwrap();
        let tree = tempfile::tempdir().unwrap();
        archive.unpack(tree.path()).unwrap();
        tree
    }

    #[test]
    fn base_has_boot_ipvs_and_dependencies_but_no_others() {
        let (_root, modules) = package(INDEX, &XZ);
        let tree = unpacked(|archive| modules.add_base(archive));
        let folder = tree.path().join("lib/modules/6.12");
        for module in [
            "ring",
            "virtio",
            "virtio-pci",
            "virtio_net",
            "ip_vs",
            "ip_vs_rr",
        ] {
            assert!(folder.join(format!("k/{module}.ko")).is_file(), "{module}");
        }
        for absent in ["other", "nf_nat"] {
            assert!(!folder.join(format!("k/{absent}.ko")).exists(), "{absent}");
        }
        let index = fs::read_to_string(folder.join("modules.dep")).unwrap();
        assert_eq!(index.lines().count(), 6);
        let order = files_of(&index, "virtio_net").unwrap();
        assert_eq!(order, ["k/ring.ko", "k/virtio.ko", "k/virtio_net.ko"]);
    }

    #[test]
    fn tools_add_only_what_base_lacks() {
        let (_root, modules) = package(INDEX, &XZ);
        let tree = unpacked(|archive| modules.add_for_tools(archive));
        let folder = tree.path().join("lib/modules/6.12/k");
        let names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["nf_nat.ko"]);
    }

    #[test]
    fn unknown_module_is_named() {
        let (_root, modules) = package(INDEX, &XZ);
        let error = modules.select(["virtio_net", "nothing"]).unwrap_err();
        assert!(matches!(error, Error::MissingModule(name) if name == "nothing"));
    }

    #[test]
    fn builtin_module_has_no_file() {
        let (_root, modules) = package(INDEX, &XZ);
        let files = modules.select(["nf_conntrack", "ip_vs"]).unwrap();
        assert_eq!(files.into_iter().collect::<Vec<_>>(), ["k/ip_vs.ko"]);
    }

    #[test]
    fn compressed_module_becomes_plain_file() {
        let (_root, modules) = package(INDEX, &XZ);
        let tree = unpacked(|archive| modules.add_base(archive));
        let plain = tree.path().join("lib/modules/6.12/k/virtio_net.ko");
        assert_eq!(fs::read(&plain).unwrap(), b"a module");
        assert!(!plain.with_extension("ko.xz").exists());
    }

    #[test]
    fn truncated_or_altered_module_is_named() {
        let mut altered = XZ;
        altered[30] ^= 1;
        for bytes in [&XZ[..40], &altered] {
            let (_root, modules) = package(INDEX, bytes);
            let error = modules.add_base(&mut Archive::default()).unwrap_err();
            assert!(matches!(error, Error::Io { path, .. } if path.ends_with("virtio_net.ko.xz")));
        }
    }
}
