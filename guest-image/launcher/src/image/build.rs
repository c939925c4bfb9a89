//! Builds an image: downloads a kernel package once, then packs archives.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::kernel_package::KernelPackage;
use super::packages::{self, PackageName};
use super::programs::{self, BinDir};
use super::{Image, ImageError, KERNEL_PACKAGE, Tools, VMLINUX, at, initrd, tools};
use crate::paths::absolute_path;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct BuildOptions {
    /// Image to build; its folder is created if it is missing.
    #[command(flatten)]
    pub image: Image,
    /// Debian package of the kernel
    #[arg(long, value_name = "PACKAGE", default_value = KERNEL_PACKAGE)]
    pub kernel: PackageName,
    /// Take the tools from the image in this folder instead of downloading them
    #[arg(long, value_name = "DIR", conflicts_with = "tools", value_parser = absolute_path())]
    pub tools_of: Option<PathBuf>,
    /// Folder of the guest's programs.
    #[command(flatten)]
    pub bin_dir: BinDir,
}

/// Builds the image. Each of its files is replaced atomically.
pub fn build(options: &BuildOptions) -> Result<(), ImageError> {
    let folder = &options.image.folder;
    fs::create_dir_all(folder).map_err(at(folder))?;
    let download_tools = options.image.tools() == Tools::With;
    // Local files come first: their errors must not cost a download.
    let base_programs = options.bin_dir.read_all(&programs::BASE)?;
    let tool_programs = if download_tools {
        options.bin_dir.read_all(&programs::FOR_TOOLS)?
    } else {
        Vec::new()
    };
    let kernel = KernelPackage::open(folder, &options.kernel)?;
    let modules = kernel.modules()?;
    let base = initrd::base(&base_programs, &modules)?;
    write(folder, initrd::BASE, &base)?;
    let tools = match &options.tools_of {
        Some(other) => {
            let path = Image::in_folder(other).existing(initrd::TOOLS, "build --tools")?;
            Some(fs::read(&path).map_err(at(&path))?)
        }
        None if download_tools => Some(initrd::tools(&tool_programs, tools_tree(folder)?.path())?),
        None => None,
    };
    if let Some(tools) = tools {
        let all = [&base[..], &initrd::modules_for_tools(&modules)?, &tools].concat();
        write(folder, initrd::TOOLS, &tools)?;
        write(folder, initrd::BASE_AND_TOOLS, &all)?;
    }
    write(folder, VMLINUX, &kernel.vmlinux()?)
}

fn tools_tree(folder: &Path) -> Result<TempDir, ImageError> {
    let downloads = TempDir::new_in(folder).map_err(at(folder))?;
    packages::download_with_dependencies(&tools::PACKAGES, downloads.path())?;
    let tree = TempDir::new_in(folder).map_err(at(folder))?;
    packages::unpack_all(downloads.path(), tree.path())?;
    Ok(tree)
}

/// Replaces a file atomically: readers, and sandboxes that are booting, see the old or the new one.
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
