//! What makes somebody else's guest one of ours: the agent and its systemd unit, as a tree to copy
//! into a root file system and as an archive to append to an initial one.

use std::fs;
use std::path::Path;

use super::archive::Archive;
use super::{ImageError, at, build, initrd};

const UNIT: &str = include_str!("../../../overlay/patchbay-agent.service");
const UNITS: &str = "/usr/lib/systemd/system";
/// What Kata's guests boot into, and what others do: links as `systemctl enable` makes them.
const TARGETS: [&str; 2] = ["kata-containers.target", "multi-user.target"];

/// The tree, in the overlay's folder.
pub const TREE: &str = "rootfs";
/// The archive.
pub const ARCHIVE: &str = "overlay.cpio";

/// Writes tree and archive into `folder`, with the static agent out of `programs`.
///
/// # Errors
/// No agent there, one that isn't static, or a file that can't be written.
pub fn write(folder: &Path, programs: &Path) -> Result<(), ImageError> {
    let agent = initrd::program(programs, "patchbay-agent")?;
    let mut archive = Archive::default();
    archive.program("/usr/bin/patchbay-agent", agent);
    archive.file(
        &format!("{UNITS}/patchbay-agent.service"),
        UNIT.as_bytes().to_vec(),
    );
    for target in TARGETS {
        let link = format!("{UNITS}/{target}.wants/patchbay-agent.service");
        archive.link_if_free(&link, "../patchbay-agent.service");
    }
    let tree = folder.join(TREE);
    fs::create_dir_all(&tree).map_err(at(&tree))?;
    archive.unpack(&tree).map_err(at(&tree))?;
    let bytes = archive.encode().map_err(at(Path::new(ARCHIVE)))?;
    build::write(folder, ARCHIVE, &bytes)
}
