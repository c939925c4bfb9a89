//! Static programs for guests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use patchbay_init::{
    AGENT_PATH, BASELINE_PATH, ECHO_PATH, EXECD_PATH, HAMMER_PATH, INTRUDER_PATH, KATA_AGENT_PATH,
};

use super::elf;
use crate::architecture::Architecture;
use crate::error::{Error, at};

/// Programs of every sandbox: file name and path in the guest.
pub(super) const BASE: [(&str, &str); 2] =
    [("patchbay-init", "/init"), ("patchbay-agent", AGENT_PATH)];

/// Programs of sandboxes with tools.
pub(super) const FOR_TOOLS: [(&str, &str); 6] = [
    ("patchbay-execd", EXECD_PATH),
    ("patchbay-echo", ECHO_PATH),
    ("patchbay-hammer", HAMMER_PATH),
    ("patchbay-intruder", INTRUDER_PATH),
    ("patchbay-kata-agent", KATA_AGENT_PATH),
    ("patchbay-baseline", BASELINE_PATH),
];

/// Folder of the guest's programs beside that of an installed launcher.
const INSTALLED: &str = "../lib/patchbay/guest";

/// A program in memory, with its path in the guest.
pub(super) type GuestProgram = (&'static str, Vec<u8>);

/// Folder of the static programs, and their architecture.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BinDir {
    /// Folder of the guest's static programs [default: the folder of this program, or of an installed one
    /// ../lib/patchbay/guest]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Architecture of the guests [default: that of this program]
    #[arg(long, value_enum)]
    arch: Option<Architecture>,
}

impl BinDir {
    pub(super) fn architecture(&self) -> Architecture {
        self.arch.unwrap_or_else(Architecture::of_host)
    }

    pub(super) fn read_all(
        &self,
        programs: &[(&str, &'static str)],
    ) -> Result<Vec<GuestProgram>, Error> {
        let read = |(name, target): &(&str, &'static str)| Ok((*target, self.read(name)?));
        programs.iter().map(read).collect()
    }

    fn path_of(&self, name: &str) -> Result<PathBuf, Error> {
        if let Some(folder) = &self.bin_dir {
            return Ok(folder.join(name));
        }
        let own = std::env::current_exe().map_err(at(Path::new("/proc/self/exe")))?;
        let beside = own.with_file_name(name);
        let installed = own.with_file_name(INSTALLED).join(name);
        Ok(if installed.exists() {
            installed
        } else {
            beside
        })
    }

    /// Reads a program and checks that it is static: the base image has no shared libraries.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.path_of(name)?;
        let content = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoGuestProgram(path.clone()),
            _ => at(&path)(error),
        })?;
        elf::require_static(&path, &content, self.architecture())?;
        Ok(content)
    }
}
