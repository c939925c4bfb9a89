//! The image folder: kernel and initial file systems of sandboxes. [`build`] creates it.

pub(crate) mod archive;
mod build;
pub(crate) mod elf;
mod initrd;
mod kernel_package;
mod modules;
pub(crate) mod overlay;
mod packages;
mod programs;
mod tools;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use build::{BuildOptions, build};

use crate::error::Error;
use crate::paths::absolute_path;

/// Default kernel package. The name contains the version, so it pins the whole image.
const KERNEL_PACKAGE: &str = "linux-image-6.1.0-56-cloud-amd64";

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
