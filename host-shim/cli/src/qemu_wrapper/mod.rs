//! `patchbay-qemu`: becomes the real QEMU, with a second monitor and empty root ports for a sandbox of
//! Kata.
//!
//! Kata's shim holds the monitor of its machines, and without an empty root port a q35 takes no card.
//! A failure here must not keep a pod from starting: QEMU runs with the given words then, and a line on
//! standard error, which Kata logs, has the reason.

mod words;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use patchbay_host::sandbox::second_monitor;
use patchbay_types::failure::Failure;

use crate::host_file::HostFile;
use crate::output::print_error;
use words::Words;

/// File name that selects the wrapper.
pub(crate) const NAME: &str = "patchbay-qemu";

/// Number of root ports without a setting.
const DEFAULT_PORTS: u8 = 4;
/// Directories that are searched for a QEMU: of Kata's releases, then of distributions.
const DIRECTORIES: [&str; 3] = ["/opt/kata/bin", "/usr/bin", "/usr/local/bin"];
/// QEMU of Red Hat's distributions.
const QEMU_KVM: &str = "/usr/libexec/qemu-kvm";

/// Exit code of a shell for a command that it can't run.
const NOT_RUN: u8 = 127;

/// Becomes QEMU; returns if there is none.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let host = HostFile::read().unwrap_or_else(|failure| {
        warn(&failure);
        HostFile::default()
    });
    let added = additions(&host, words).unwrap_or_else(|failure| {
        warn(&failure);
        Vec::new()
    });
    for qemu in candidates(host.qemu.as_deref()) {
        let error = Command::new(&qemu).args(words).args(&added).exec();
        if error.kind() != io::ErrorKind::NotFound || Some(qemu.as_path()) == host.qemu.as_deref() {
            warn(&Failure::of_io(
                format!("could not run {}", qemu.display()),
                &error,
            ));
        }
    }
    print_error("patchbay-qemu: no QEMU found: name its path as qemu in the host file\n");
    ExitCode::from(NOT_RUN)
}

/// Returns the words to append: none for a QEMU that is not that of a sandbox, as one whose version is
/// queried.
fn additions(host: &HostFile, words: &[OsString]) -> Result<Vec<OsString>, Failure> {
    let words = Words::parse(words);
    let Some(id) = words.sandbox() else {
        return Ok(Vec::new());
    };
    let socket = second_monitor::prepare(&host.run_dir(), &id)?;
    let ports = host.ports.unwrap_or(DEFAULT_PORTS);
    Ok(words::added(&socket, words.missing_ports(ports)))
}

/// Lists the programs to try. The wrapper itself would run forever.
fn candidates(configured: Option<&Path>) -> impl Iterator<Item = PathBuf> {
    let program = format!("qemu-system-{}", std::env::consts::ARCH);
    let usual = DIRECTORIES.map(|directory| Path::new(directory).join(&program));
    let all = configured.map(Path::to_owned).into_iter().chain(usual);
    let all = all.chain([PathBuf::from(QEMU_KVM)]);
    all.filter(|qemu| qemu.file_name() != Some(OsStr::new(NAME)))
}

fn warn(failure: &Failure) {
    print_error(&format!("{NAME}: {}\n", failure.line()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_start_with_configured_qemu() {
        let of = |configured: &str| candidates(Some(Path::new(configured))).collect::<Vec<_>>();
        let usual = candidates(None).collect::<Vec<_>>();
        assert!(usual[0].starts_with("/opt/kata/bin"), "{usual:?}");
        assert_eq!(
            of("/opt/q"),
            [&[PathBuf::from("/opt/q")], &usual[..]].concat()
        );
        assert_eq!(of("/opt/patchbay/bin/patchbay-qemu"), usual);
    }
}
