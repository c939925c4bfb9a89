//! Completion in shells: the script that `completions` prints asks this program for each word.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Arg, Command};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCandidates, CompletionCandidate};
use patchbay_host::sandbox::{self, DEFAULT_RUN_DIR};

/// Variable by which the script asks.
const VARIABLE: &str = "PATCHBAY_COMPLETE";
const PROGRAM: &str = "patchbay-sandbox";

/// Returns the names of the shells.
pub(crate) fn shells() -> clap::builder::PossibleValuesParser {
    Shells::builtins().names().collect::<Vec<_>>().into()
}

/// Prints the script for a shell.
pub(crate) fn print_script(shell: &str, out: &mut dyn Write) -> io::Result<()> {
    let shells = Shells::builtins();
    let shell = shells.completer(shell).ok_or(io::ErrorKind::InvalidInput)?;
    shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, out)
}

/// Prints candidates and exits if a script asks.
pub(crate) fn complete(command: fn() -> Command) {
    CompleteEnv::with_factory(move || with_sandboxes(command()))
        .var(VARIABLE)
        .complete();
}

fn with_sandboxes(command: Command) -> Command {
    let is_start = command.get_name() == "start";
    let set = |arg: Arg| {
        if arg.get_id() == "id" && !is_start {
            arg.add(ArgValueCandidates::new(sandboxes))
        } else {
            arg
        }
    };
    command.mut_args(set).mut_subcommands(with_sandboxes)
}

fn sandboxes() -> Vec<CompletionCandidate> {
    let run_dir = std::env::var_os("PATCHBAY_RUN_DIR").map(PathBuf::from);
    let ids = sandbox::ids(&run_dir.unwrap_or_else(|| DEFAULT_RUN_DIR.into()));
    let ids = ids.unwrap_or_default().into_iter();
    ids.map(|id| CompletionCandidate::new(id.to_string()))
        .collect()
}
