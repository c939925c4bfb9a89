//! `completions` and `man`: what the command line says of itself, for shells and readers.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use patchbay_types::failure::{Failure, Kind};

use super::or_nothing;
use crate::args::Cli;
use crate::output::{Ended, Output};

/// The completions for a shell.
pub(super) fn completions(shell: Shell) -> Output {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "patchbay", &mut text);
    Output::Text(text)
}

/// Writes a page for each command.
pub(super) fn pages(dir: &Path) -> Ended {
    let written =
        fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    let told = written.map_err(|error| {
        let kind = error.raw_os_error().map_or(Kind::Other, Kind::from_errno);
        let sentence = format!("could not write the manual pages to {}", dir.display());
        Failure::new(kind, sentence).with_cause(error.to_string())
    });
    or_nothing(told.map(|()| Output::Nothing))
}
