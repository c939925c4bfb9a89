//! Archives that the kernel unpacks as its initial file system.

use std::path::Path;

use super::archive::Archive;
use super::modules::KernelModules;
use super::programs::GuestProgram;
use super::tools;
use crate::architecture::Architecture;
use crate::error::{Error, at};

pub(super) const BASE: &str = "initrd.cpio";
pub(super) const TOOLS: &str = "initrd-tools.cpio";
pub(super) const BASE_AND_TOOLS: &str = "initrd-with-tools.cpio";

const EMPTY_FOLDERS: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// Returns the archive of every sandbox.
pub(super) fn base(programs: &[GuestProgram], modules: &KernelModules) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::default();
    for folder in EMPTY_FOLDERS {
        archive.directory(folder);
    }
    add_programs(&mut archive, programs);
    modules.add_base(&mut archive)?;
    encode(&archive, BASE)
}

/// Returns the archive that follows the base in a sandbox with tools.
pub(super) fn modules_for_tools(modules: &KernelModules) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::default();
    modules.add_for_tools(&mut archive)?;
    encode(&archive, BASE_AND_TOOLS)
}

/// Returns the last archive of a sandbox with tools. It does not depend on the kernel.
pub(super) fn tools(
    programs: &[GuestProgram],
    tree: &Path,
    architecture: Architecture,
) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::default();
    add_programs(&mut archive, programs);
    tools::add_programs(&mut archive, tree, architecture)?;
    encode(&archive, TOOLS)
}

fn add_programs(archive: &mut Archive, programs: &[GuestProgram]) {
    for (target, content) in programs {
        archive.program(target, content.clone());
    }
}

fn encode(archive: &Archive, name: &str) -> Result<Vec<u8>, Error> {
    archive.encode().map_err(at(Path::new(name)))
}
