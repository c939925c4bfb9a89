//! `completions` and `man`.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use patchbay_types::failure::Failure;

use crate::args::CommandLine;

/// Returns the completion script for a shell.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "patchbay", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes a manual page for each command to `dir`, which is created if it doesn't exist.
pub(super) fn write_pages(dir: &Path) -> Result<String, Failure> {
    let written = fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(CommandLine::command(), dir));
    written.map(|()| String::new()).map_err(|error| {
        let message = format!("could not write the manual pages to {}", dir.display());
        Failure::of_io(message, &error)
    })
}
