//! Arguments of `completions`.

use clap::Args;

use crate::completion;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete for
    #[arg(value_parser = completion::shells())]
    pub(crate) shell: String,
    /// Program to complete for
    #[arg(long, value_name = "NAME", default_value = "patchbay")]
    pub(crate) program: completion::Program,
}
