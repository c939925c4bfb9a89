//! Arguments of `watch`.

use clap::Args;
use patchbay_host::watch::LinkPattern;

use super::FormatArg;

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Sandbox or container IDs, or unique prefixes [default: all sandboxes]
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Make the changes that are due now, print them, and exit
    #[arg(long)]
    pub(crate) once: bool,
    /// Leave links alone whose name matches, a pattern with * and ?; can be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<LinkPattern>,
    /// Print the changes and make none
    #[arg(long, requires = "once")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}
