//! The agent, its systemd units and configuration of network managers, for guests that were not built
//! here: as a tree to copy into a root file system and as an archive to append to an initrd.

use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{Archive, create_folder};
use super::build;
use super::programs::BinDir;
use crate::error::{Error, at};

const UNITS: &str = "/usr/lib/systemd/system";
/// Folder of the administrator's units and links.
const ENABLED: &str = "/etc/systemd/system";
/// Files by their path in the guest.
const FILES: [(&str, &str); 10] = [
    (
        "/usr/lib/systemd/system/patchbay-agent.service",
        include_str!("../../../overlay/patchbay-agent.service"),
    ),
    (
        "/usr/lib/systemd/system/patchbay-agent.socket",
        include_str!("../../../overlay/patchbay-agent.socket"),
    ),
    (
        "/usr/lib/systemd/system/patchbay-modules.socket",
        include_str!("../../../overlay/patchbay-modules.socket"),
    ),
    (
        "/usr/lib/systemd/system/patchbay-modules@.service",
        include_str!("../../../overlay/patchbay-modules@.service"),
    ),
    (
        "/usr/lib/systemd/system/patchbay-netns.socket",
        include_str!("../../../overlay/patchbay-netns.socket"),
    ),
    (
        "/usr/lib/systemd/system/patchbay-netns@.service",
        include_str!("../../../overlay/patchbay-netns@.service"),
    ),
    (
        "/usr/lib/systemd/system-preset/90-patchbay.preset",
        include_str!("../../../overlay/90-patchbay.preset"),
    ),
    (
        "/usr/lib/udev/rules.d/70-patchbay.rules",
        include_str!("../../../overlay/70-patchbay.rules"),
    ),
    (
        "/usr/lib/systemd/network/00-0-patchbay.network",
        include_str!("../../../overlay/00-0-patchbay.network"),
    ),
    (
        "/usr/lib/systemd/network/00-0-patchbay.link",
        include_str!("../../../overlay/00-0-patchbay.link"),
    ),
];
/// Units by the boot targets that want them, of Kata's and of other guests. The links are those of `systemctl
/// enable`, so that `systemctl disable` removes them; the preset keeps them at a first boot.
const WANTED: [(&str, &str); 3] = [
    ("kata-containers.target", "patchbay-agent.service"),
    ("multi-user.target", "patchbay-agent.service"),
    ("sockets.target", "patchbay-agent.socket"),
];

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
    for (path, content) in FILES {
        archive.file(path, content.as_bytes().to_vec());
    }
    for (target, unit) in WANTED {
        let link = format!("{ENABLED}/{target}.wants/{unit}");
        archive.link_if_free(&link, &format!("{UNITS}/{unit}"));
    }
    let tree = options.folder.join(TREE);
    fs::create_dir_all(&options.folder).map_err(at(&options.folder))?;
    // A copy gives the guest's root its mode.
    create_folder(&tree).map_err(at(&tree))?;
    archive.unpack(&tree).map_err(at(&tree))?;
    let bytes = archive.encode().map_err(at(Path::new(ARCHIVE)))?;
    build::write(&options.folder, ARCHIVE, &bytes)
}
