//! The image folder: kernel and initial file systems of sandboxes. [`build`] creates it.

pub(crate) mod archive;
mod build;
pub(crate) mod elf;
mod initrd;
mod kernel;
mod kernel_package;
mod modules;
pub(crate) mod overlay;
mod packages;
mod programs;
mod tools;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use build::{BuildOptions, build};

use crate::architecture::Architecture;
use crate::error::{Error, at};
use crate::paths::absolute_path;

const DEFAULT_FOLDER: &str = "/var/lib/patchbay/image";

const VMLINUX: &str = "vmlinux";

/// Presence of test tools in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tools {
    /// The guest has the tools and serves `exec`.
    With,
    /// The guest has the agent only.
    Without,
}

/// An image folder, and the choice between its two initial file systems.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Image {
    /// Folder of the image
    #[arg(long = "image", env = "PATCHBAY_IMAGE_DIR", default_value = DEFAULT_FOLDER,
          value_name = "DIR", value_parser = absolute_path())]
    folder: PathBuf,
    /// Include test tools: ip, ipvsadm, conntrack, ethtool, ping, busybox, and the server of exec
    #[arg(long)]
    tools: bool,
}

impl Image {
    pub(crate) fn tools(&self) -> Tools {
        if self.tools {
            Tools::With
        } else {
            Tools::Without
        }
    }

    pub(crate) fn vmlinux(&self) -> Result<PathBuf, Error> {
        existing(&self.folder, VMLINUX, "build")
    }

    /// Returns the architecture of the kernel.
    pub(crate) fn architecture(&self) -> Result<Architecture, Error> {
        let path = self.vmlinux()?;
        let mut header = [0; 64];
        let read = File::open(&path).and_then(|mut file| file.read_exact(&mut header));
        read.map_err(at(&path))?;
        kernel::architecture_of(&header).ok_or(Error::UnknownKernel(path))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn initrd(&self) -> Result<PathBuf, Error> {
        match self.tools() {
            Tools::Without => existing(&self.folder, initrd::BASE, "build"),
            Tools::With => existing(&self.folder, initrd::BASE_AND_TOOLS, "build --tools"),
        }
    }
}

/// Returns the path of a file of an image that `command` has built.
fn existing(folder: &Path, name: &str, command: &'static str) -> Result<PathBuf, Error> {
    let path = folder.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::Incomplete { path, command })
    }
}
