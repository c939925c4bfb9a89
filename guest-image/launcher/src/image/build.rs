//! The order of building an image: fetch and cut the kernel (once per package), then pack.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::packages::PackageName;
use super::{Image, ImageError, at, initrd, kernel, modules, packages};

/// What to build and from where.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The image folder; made when it isn't there.
    pub folder: PathBuf,
    /// Where the static programs of the guest are.
    pub programs: PathBuf,
    /// The package of the kernel.
    pub kernel: PackageName,
    /// The programs for trying and testing.
    pub tools: ToolsFrom,
}

/// Where an image gets its tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolsFrom {
    /// It has none.
    Nowhere,
    /// Their packages.
    Packages,
    /// Another image, built of the same programs.
    Image(PathBuf),
}

/// A kernel package, unpacked and cut, in the image folder's cache.
pub(super) struct KernelFiles {
    folder: PathBuf,
}

const MODULES: &str = "modules";

impl KernelFiles {
    fn vmlinux(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// The folder that becomes `/lib/modules` in the guest.
    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join(MODULES)
    }
}

/// Builds the image, replacing its files one by one, each at once.
pub fn build(options: &BuildOptions) -> Result<(), ImageError> {
    let BuildOptions {
        folder,
        programs,
        kernel,
        tools,
    } = options;
    fs::create_dir_all(folder).map_err(at(folder))?;
    // What is built from local files comes first: its mistakes shall not cost a download.
    let guest = initrd::Programs::read(programs, tools)?;
    let kernel = cached_kernel(folder, kernel)?;
    let base = initrd::base(&guest, &kernel)?;
    write(folder, initrd::BASE, &base)?;
    let tools = match tools {
        ToolsFrom::Nowhere => None,
        ToolsFrom::Packages => Some(initrd::tools(&guest, tools_tree(folder)?.path())?),
        ToolsFrom::Image(other) => {
            let path = Image::new(other.clone()).existing(initrd::TOOLS, "build --tools")?;
            Some(fs::read(&path).map_err(at(&path))?)
        }
    };
    if let Some(tools) = tools {
        let all = [&base[..], &initrd::extra_modules(&kernel)?, &tools].concat();
        write(folder, initrd::TOOLS, &tools)?;
        write(folder, initrd::BASE_AND_TOOLS, &all)?;
    }
    let vmlinux = kernel.vmlinux();
    write(
        folder,
        "vmlinux",
        &fs::read(&vmlinux).map_err(at(&vmlinux))?,
    )
}

fn cached_kernel(folder: &Path, package: &PackageName) -> Result<KernelFiles, ImageError> {
    let cache = folder.join("cache");
    let files = KernelFiles {
        folder: cache.join(package.as_str()),
    };
    if files.folder.is_dir() {
        return Ok(files);
    }
    fs::create_dir_all(&cache).map_err(at(&cache))?;
    let fresh = fetch_kernel(&cache, package)?;
    match fs::rename(fresh.path(), &files.folder) {
        Ok(()) => drop(fresh.keep()),
        // Another build was faster: its files are as good.
        Err(_) if files.folder.is_dir() => {}
        Err(error) => return Err(at(&files.folder)(error)),
    }
    Ok(files)
}

fn fetch_kernel(cache: &Path, package: &PackageName) -> Result<TempDir, ImageError> {
    let work = TempDir::new_in(cache).map_err(at(cache))?;
    packages::download(package, work.path())?;
    let tree = work.path().join("tree");
    packages::unpack_all(work.path(), &tree)?;
    let bzimage = only_entry(&tree.join("boot"), "vmlinuz-")?;
    let vmlinux = kernel::vmlinux_of(&fs::read(&bzimage).map_err(at(&bzimage))?)?;
    let fresh = TempDir::new_in(cache).map_err(at(cache))?;
    let target = fresh.path().join("vmlinux");
    fs::write(&target, vmlinux).map_err(at(&target))?;
    let modules = fresh.path().join(MODULES);
    fs::rename(tree.join("lib/modules"), &modules).map_err(at(&modules))?;
    modules::unpack(&modules)?;
    Ok(fresh)
}

fn only_entry(folder: &Path, prefix: &str) -> Result<PathBuf, ImageError> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    let mut found = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry.path()),
        _ => Err(ImageError::NoKernel),
    }
}

fn tools_tree(folder: &Path) -> Result<TempDir, ImageError> {
    let downloads = TempDir::new_in(folder).map_err(at(folder))?;
    packages::download_with_dependencies(&super::tools::PACKAGES, downloads.path())?;
    let tree = TempDir::new_in(folder).map_err(at(folder))?;
    packages::unpack_all(downloads.path(), tree.path())?;
    Ok(tree)
}

/// Readers, and sandboxes that boot right now, see the old file or the new one.
pub(super) fn write(folder: &Path, name: &str, content: &[u8]) -> Result<(), ImageError> {
    let path = folder.join(name);
    let mode = fs::Permissions::from_mode(0o644);
    let mut file = tempfile::Builder::new()
        .permissions(mode)
        .tempfile_in(folder)
        .map_err(at(folder))?;
    file.write_all(content).map_err(at(&path))?;
    file.persist(&path)
        .map_err(|error| at(&path)(error.error))?;
    Ok(())
}
