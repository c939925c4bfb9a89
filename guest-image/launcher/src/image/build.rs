//! Builds an image: downloads a kernel package once, then packs archives.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::kernel_package::KernelPackage;
use super::packages::{self, Apt, PackageName};
use super::programs::{self, BinDir};
use super::{Image, VMLINUX, existing, initrd, tools};
use crate::error::{Error, at};
use crate::paths::absolute_path;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildOptions {
    #[command(flatten)]
    pub(crate) image: Image,
    /// Debian package of the kernel [default: linux-image-6.1.0-56-cloud-ARCH]
    #[arg(long, value_name = "PACKAGE")]
    pub(crate) kernel: Option<PackageName>,
    /// Take the tools from the image in this folder instead of downloading them
    #[arg(long, value_name = "DIR", conflicts_with = "tools", value_parser = absolute_path())]
    pub(crate) tools_of: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) bin_dir: BinDir,
}

/// Builds the image. Each of its files is replaced atomically.
pub(crate) fn build(options: &BuildOptions) -> Result<(), Error> {
    let folder = &options.image.folder;
    fs::create_dir_all(folder).map_err(at(folder))?;
    // Local files come first: their errors must not cost a download.
    let arch = options.bin_dir.architecture();
    let base_programs = options.bin_dir.read_all(&programs::BASE)?;
    let read_tools = || options.bin_dir.read_all(&programs::FOR_TOOLS);
    let tool_programs = options.image.tools.then(read_tools).transpose()?;
    let apt = Apt::new(arch, folder);
    let package = options.kernel.clone();
    let package = package.unwrap_or_else(|| PackageName::default_kernel(arch));
    let kernel = KernelPackage::open(folder, &package, &apt)?;
    let modules = kernel.modules()?;
    let base = initrd::base(&base_programs, &modules)?;
    write(folder, initrd::BASE, &base)?;
    let tools = match (&options.tools_of, tool_programs) {
        (Some(other), _) => {
            let path = existing(other, initrd::TOOLS, "build --tools")?;
            Some(fs::read(&path).map_err(at(&path))?)
        }
        (None, Some(programs)) => Some(initrd::tools(
            &programs,
            tools_tree(folder, &apt)?.path(),
            arch,
        )?),
        (None, None) => None,
    };
    if let Some(tools) = tools {
        let all = [&base[..], &initrd::modules_for_tools(&modules)?, &tools].concat();
        write(folder, initrd::TOOLS, &tools)?;
        write(folder, initrd::BASE_AND_TOOLS, &all)?;
    }
    write(folder, VMLINUX, &kernel.vmlinux()?)
}

fn tools_tree(folder: &Path, apt: &Apt) -> Result<TempDir, Error> {
    let downloads = TempDir::new_in(folder).map_err(at(folder))?;
    apt.download_with_dependencies(&tools::PACKAGES, downloads.path())?;
    let tree = TempDir::new_in(folder).map_err(at(folder))?;
    packages::unpack_all(downloads.path(), tree.path())?;
    Ok(tree)
}

/// Replaces a file atomically: readers, and sandboxes that are booting, see the old or the new one.
pub(super) fn write(folder: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
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
