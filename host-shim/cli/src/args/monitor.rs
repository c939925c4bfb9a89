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
    /// Compare the IPVS tables of guests every so many seconds, 1 to 3600: kernels report no changes of them
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) ipvs: Option<u16>,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}
