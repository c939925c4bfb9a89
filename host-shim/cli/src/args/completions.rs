//! Arguments of `completions`.

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use clap_complete::env::Shells;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete for
    #[arg(value_parser = shells())]
    pub(crate) shell: String,
    /// Program to complete for
    #[arg(long, value_name = "NAME", default_value = "patchbay")]
    pub(crate) program: Program,
}

/// Program that has completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// All commands
    Patchbay,
    /// The link, for patchbay's commands
    KataRuntime,
}

/// Returns the names of the shells.
fn shells() -> PossibleValuesParser {
    Shells::builtins().names().collect::<Vec<_>>().into()
}
