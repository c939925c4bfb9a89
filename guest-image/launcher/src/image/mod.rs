//! The image folder: kernel and initial file systems of sandboxes. [`build`] creates it.

pub mod archive;
pub mod bzimage;
pub mod elf;
pub mod overlay;
pub mod packages;
pub mod programs;

mod build;
mod initrd;
mod kernel_package;
mod modules;
mod tools;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use build::{BuildOptions, build};

use crate::paths::absolute_path;

/// Default kernel package. The name contains the version, so it pins the whole image.
pub const KERNEL_PACKAGE: &str = "linux-image-6.1.0-56-cloud-amd64";

/// Default image folder.
pub const DEFAULT_FOLDER: &str = "/var/lib/patchbay/image";

const VMLINUX: &str = "vmlinux";

/// Presence of test tools in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tools {
    /// The guest has the tools and serves `exec`.
    With,
    /// The guest has the agent only.
    Without,
}

/// Error of building or using an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file of the image is missing.
    #[error("the image has no {}: create it with `patchbay-sandbox {}`", .path.display(), .command)]
    Incomplete {
        /// Path of the file.
        path: PathBuf,
        /// Subcommand that creates it.
        command: &'static str,
    },
    /// A program for the image is missing.
    #[error("no program {}: build it statically, or name its folder with --bin-dir", .0.display())]
    MissingProgram(PathBuf),
    /// A file or folder can't be read or written, or has invalid content.
    #[error("could not read or write {}", .path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operation.
        source: io::Error,
    },
    /// The kernel package lacks a kernel or its modules, or has several.
    #[error("the kernel package does not have exactly one kernel with modules")]
    NoKernel,
    /// The kernel can't be extracted.
    #[error("could not extract the kernel from the bzImage")]
    BzImage(#[from] bzimage::BzImageError),
    /// The kernel package lacks a module.
    #[error("the kernel package has no module {0}")]
    MissingModule(String),
    /// A program of the host can't be started.
    #[error("could not start {program}: building images needs Debian's apt, dpkg and kmod")]
    ToolNotStarted {
        /// Name of the program.
        program: String,
        /// Error of the start.
        source: io::Error,
    },
    /// A program of the host failed.
    #[error("{program} failed ({reason}); if packages are not found, run apt-get update")]
    ToolFailed {
        /// Name of the program.
        program: String,
        /// Last line of its standard error, escaped.
        reason: String,
    },
    /// The downloaded packages lack a program or library.
    #[error("the packages of the tools have no {0}")]
    MissingTool(String),
    /// A program is not an ELF file.
    #[error("{} is not an ELF program", .0.display())]
    NotElf(PathBuf),
    /// The base image has no shared libraries.
    #[error(
        "{} is not linked statically (its loader is {loader}): build it with \
         RUSTFLAGS=\"-C target-feature=+crt-static\" and an explicit --target",
        .path.display()
    )]
    NotStatic {
        /// Path of the program.
        path: PathBuf,
        /// Path of its loader.
        loader: String,
    },
}

/// An image folder, and the choice between its two initial file systems.
#[derive(Debug, Clone, clap::Args)]
pub struct Image {
    /// Folder of the image
    #[arg(long = "image", env = "PATCHBAY_IMAGE_DIR", default_value = DEFAULT_FOLDER,
          value_name = "DIR", value_parser = absolute_path())]
    folder: PathBuf,
    /// Include test tools: ip, ipvsadm, conntrack, ethtool, ping, busybox, and the server of exec
    #[arg(long)]
    tools: bool,
}

impl Image {
    fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            tools: false,
        }
    }

    /// Returns the choice of the initial file system.
    #[must_use]
    pub fn tools(&self) -> Tools {
        if self.tools {
            Tools::With
        } else {
            Tools::Without
        }
    }

    /// Returns the path of the ELF kernel.
    pub fn vmlinux(&self) -> Result<PathBuf, ImageError> {
        self.existing(VMLINUX, "build")
    }

    /// Returns the path of the initial file system.
    pub fn initrd(&self) -> Result<PathBuf, ImageError> {
        match self.tools() {
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
