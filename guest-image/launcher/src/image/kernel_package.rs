//! Kernel packages, unpacked once into the image folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::kernel;
use super::modules::KernelModules;
use super::packages::{self, Apt, PackageName};
use crate::error::{Error, at};

/// Folder of unpacked packages. Another name than that of earlier layouts, which lack depmod's index.
const CACHE: &str = "kernels";
const VMLINUX: &str = "vmlinux";
const MODULES: &str = "lib/modules";

/// An unpacked kernel package with a kernel that QEMU boots and an index of its modules.
pub(super) struct KernelPackage {
    folder: PathBuf,
}

impl KernelPackage {
    /// Opens the package in the cache below `folder`, and downloads it first if it is not there.
    pub(super) fn open(folder: &Path, package: &PackageName, apt: &Apt) -> Result<Self, Error> {
        let cache = folder.join(CACHE);
        let folder = cache.join(package.as_str());
        if !folder.is_dir() {
            fs::create_dir_all(&cache).map_err(at(&cache))?;
            let fresh = download(&cache, package, apt)?;
            match fs::rename(fresh.path(), &folder) {
                Ok(()) => drop(fresh.keep()),
                // A concurrent build has stored the same files.
                Err(_) if folder.is_dir() => {}
                Err(error) => return Err(at(&folder)(error)),
            }
        }
        Ok(Self { folder })
    }

    pub(super) fn vmlinux(&self) -> Result<Vec<u8>, Error> {
        let path = self.folder.join(VMLINUX);
        fs::read(&path).map_err(at(&path))
    }

    pub(super) fn modules(&self) -> Result<KernelModules, Error> {
        KernelModules::open(only_entry(&self.folder.join(MODULES), "")?)
    }
}

fn download(cache: &Path, package: &PackageName, apt: &Apt) -> Result<TempDir, Error> {
    let archives = TempDir::new_in(cache).map_err(at(cache))?;
    apt.download(package, archives.path())?;
    let tree = TempDir::new_in(cache).map_err(at(cache))?;
    packages::unpack_all(archives.path(), tree.path())?;
    let packaged = only_entry(&tree.path().join("boot"), "vmlinuz-")?;
    let vmlinux = kernel::bootable(fs::read(&packaged).map_err(at(&packaged))?)?;
    let target = tree.path().join(VMLINUX);
    fs::write(&target, vmlinux).map_err(at(&target))?;
    let release = only_entry(&tree.path().join(MODULES), "")?;
    let mut depmod = Command::new("/sbin/depmod");
    depmod.arg("--basedir").arg(tree.path());
    packages::run(depmod.arg(release.file_name().unwrap_or_default()))?;
    Ok(tree)
}

/// Returns the one entry of `folder` whose name starts with `prefix`.
fn only_entry(folder: &Path, prefix: &str) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    let mut found = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry.path()),
        _ => Err(Error::NoKernel),
    }
}
