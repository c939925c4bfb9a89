//! The image folder: what a sandbox boots. [`build`] makes it, [`Image`] finds its files.

pub mod archive;
pub mod elf;
pub mod kernel;
pub mod modules;
pub mod overlay;
pub mod packages;
pub mod tools;

mod build;
mod initrd;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use build::{BuildOptions, ToolsFrom, build};

/// The kernel package that is meant when no other is said: name and, within it, the version.
/// Everything in the image follows from it.
pub const KERNEL_PACKAGE: &str = "linux-image-6.1.0-56-cloud-amd64";

/// Where the image lies when nothing else is said.
pub const DEFAULT_FOLDER: &str = "/var/lib/patchbay/image";

/// Whether the programs for trying and testing are in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tools {
    /// They are, and `exec` works.
    With,
    /// The product image: the agent and nothing else.
    Without,
}

/// An image that can't be built or used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file of the image isn't there.
    #[error("The image has no {}; make it with `patchbay-sandbox {}`.", .path.display(), .command)]
    Incomplete {
        /// The missing file.
        path: PathBuf,
        /// What makes it.
        command: &'static str,
    },
    /// A program for the image isn't there.
    #[error(
        "The program {} is missing; build it statically, or say with --bin-dir where it is.",
        .0.display()
    )]
    MissingProgram(PathBuf),
    /// A file or folder can't be read or written.
    #[error("{} can't be read or written.", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel package doesn't hold one kernel with one folder of modules.
    #[error("The kernel package holds no kernel with modules.")]
    NoKernel,
    /// The kernel can't be used.
    #[error(transparent)]
    Kernel(#[from] kernel::KernelError),
    /// A module can't be used.
    #[error(transparent)]
    Module(#[from] modules::ModuleError),
    /// A package can't be had.
    #[error(transparent)]
    Package(#[from] packages::PackageError),
    /// A tool can't be had.
    #[error(transparent)]
    Tool(#[from] tools::ToolError),
    /// A program doesn't fit.
    #[error(transparent)]
    Elf(#[from] elf::ElfError),
}

/// The files of an image folder.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
}

impl Image {
    /// The image in `folder`; the files are looked for when they are used.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The ELF kernel, or why there is none.
    pub fn vmlinux(&self) -> Result<PathBuf, ImageError> {
        self.existing("vmlinux", "build")
    }

    /// The initial file system, or why there is none.
    pub fn initrd(&self, tools: Tools) -> Result<PathBuf, ImageError> {
        match tools {
            Tools::Without => self.existing(initrd::BASE, "build"),
            Tools::With => self.existing(initrd::BASE_AND_TOOLS, "build --tools"),
        }
    }

    fn existing(&self, name: &str, command: &'static str) -> Result<PathBuf, ImageError> {
        let path = self.folder.join(name);
        if path.is_file() {
            Ok(path)
        } else {
            Err(ImageError::Incomplete { path, command })
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ImageError + use<> {
    let path = path.to_owned();
    move |source| ImageError::Io { path, source }
}
