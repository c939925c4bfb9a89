//! Arguments of `monitor`.

use clap::Args;

use super::FormatArg;

/// Arguments of `monitor`.
#[derive(Debug, Args)]
pub(crate) struct MonitorArgs {
    /// Sandbox or container IDs, or unique prefixes [default: all sandboxes, also those that appear later]
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Print the time of each event, in seconds since 1970; JSON always has it
    #[arg(long)]
    pub(crate) timestamp: bool,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}
