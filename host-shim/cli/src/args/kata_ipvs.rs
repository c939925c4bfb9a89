//! Arguments of `kata-ipvs`.

use clap::{Args, Subcommand};
use patchbay_grammar::{conntrack, ipvsadm};

use super::{IpvsOptions, SandboxArg};

/// Sub-commands of `kata-ipvs`.
#[derive(Debug, Subcommand)]
pub(crate) enum KataIpvsCommand {
    /// Change or show virtual services with ipvsadm options
    Ipvsadm(IpvsadmArgs),
    /// Delete tracked connections with the filter options of conntrack -D
    Cleanup(CleanupArgs),
}

/// Arguments of `kata-ipvs cleanup`.
#[derive(Debug, Args)]
#[command(after_help = format!("Filter options:\n{}", conntrack::help()))]
pub(crate) struct CleanupArgs {
    /// Filter options of conntrack -D in one argument, such as "--orig-dst ADDRESS --protonum PROTOCOL"
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub(crate) parameters: String,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
}

/// Arguments of `kata-ipvs ipvsadm`.
#[derive(Debug, Args)]
#[command(after_help = format!("ipvsadm options:\n{}", ipvsadm::help()))]
pub(crate) struct IpvsadmArgs {
    /// ipvsadm options in one argument
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub(crate) parameters: Option<String>,
    /// Restore a rule file; - reads standard input
    #[arg(long, value_name = "-", allow_hyphen_values = true)]
    pub(crate) restore: Option<String>,
    #[command(flatten)]
    pub(crate) options: IpvsOptions,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
}
