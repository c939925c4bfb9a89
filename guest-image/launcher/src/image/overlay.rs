//! The agent and its systemd unit for guests that were not built here, as a tree to copy into a root
//! file system and as an archive to append to an initrd.

use std::fs;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::build;
use super::programs::BinDir;
use crate::error::{Error, at};

const UNIT: &str = include_str!("../../../overlay/patchbay-agent.service");
const UNITS: &str = "/usr/lib/systemd/system";
/// Boot targets of Kata's and of other guests; linked as by `systemctl enable`.
const TARGETS: [&str; 2] = ["kata-containers.target", "multi-user.target"];

const TREE: &str = "rootfs";
const ARCHIVE: &str = "overlay.cpio";

/// Arguments of `overlay`.
#[derive(Debug, clap::Args)]
pub(crate) struct OverlayOptions {
    /// Folder in which to create `rootfs` and `overlay.cpio`
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) bin_dir: BinDir,
}

/// Writes the tree and the archive.
pub(crate) fn write(options: &OverlayOptions) -> Result<(), Error> {
    let mut archive = Archive::default();
    let agent = options.bin_dir.read("patchbay-agent")?;
    archive.program("/usr/bin/patchbay-agent", agent);
    archive.file(
        &format!("{UNITS}/patchbay-agent.service"),
        UNIT.as_bytes().to_vec(),
    );
    for target in TARGETS {
        let link = format!("{UNITS}/{target}.wants/patchbay-agent.service");
        archive.link_if_free(&link, "../patchbay-agent.service");
    }
    let tree = options.folder.join(TREE);
    fs::create_dir_all(&tree).map_err(at(&tree))?;
    archive.unpack(&tree).map_err(at(&tree))?;
    let bytes = archive.encode().map_err(at(Path::new(ARCHIVE)))?;
    build::write(&options.folder, ARCHIVE, &bytes)
}
