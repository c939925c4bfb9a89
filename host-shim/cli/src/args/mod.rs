//! Command-line arguments.

mod cni;
mod completions;
mod connections;
mod defaults;
pub(crate) mod examples;
mod format;
mod global;
mod kata_ipvs;
mod log;
mod metrics;
mod monitor;
mod native;
mod network;
mod overview;
pub(crate) mod trailing;
mod wait;
mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use patchbay_grammar::{conntrack, ipvsadm};

use crate::timings::TimingsFormat;
pub(crate) use cni::{CniCommand, InstallArgs};
pub(crate) use completions::{CompletionsArgs, Program};
pub(crate) use connections::{ConnectionsCommand, ServersArgs};
pub(crate) use format::FormatArg;
pub(crate) use global::GlobalArgs;
pub(crate) use kata_ipvs::{CleanupArgs, IpvsadmArgs, KataIpvsCommand};
pub(crate) use metrics::{ExporterArgs, MetricsArgs, ScopeArgs};
pub(crate) use monitor::MonitorArgs;
pub(crate) use native::{
    DefaultRouteArg, NeighborCommand, NicAddArgs, NicCommand, NicListArgs, NicSetArgs,
    RouteCommand, SysctlCommand, SysctlSetArgs,
};
pub(crate) use network::{ApplyArgs, DocumentArgs, ExportArgs};
pub(crate) use overview::{DoctorArgs, ListArgs};
pub(crate) use wait::WaitArgs;
pub(crate) use watch::WatchArgs;

/// Heading of the options that every command has.
pub(crate) const GLOBAL_HEADING: &str = "Global options";

/// Plugs network cards into running QEMU sandboxes and configures them inside.
#[derive(Debug, Parser)]
#[command(name = "patchbay", version, propagate_version = true)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// Print the duration of each phase on standard error, as text or, with --timings=json, as JSON
    #[arg(long, global = true, value_name = "FORMAT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "text", help_heading = GLOBAL_HEADING)]
    pub(crate) timings: Option<TimingsFormat>,
    #[command(subcommand)]
    pub(crate) command: PatchbayCommand,
    /// Name of the command with that of its sub-command.
    #[arg(skip)]
    pub(crate) name: String,
}

/// Sandbox that a command works on.
#[derive(Debug, Args)]
pub(crate) struct SandboxArg {
    /// Sandbox or container ID, or a unique prefix
    pub(crate) id: String,
}

/// Commands of `patchbay`.
#[derive(Debug, Subcommand)]
pub(crate) enum PatchbayCommand {
    /// Manage network cards and routes with the JSON documents of kata-runtime
    #[command(subcommand)]
    KataNetwork(KataNetworkCommand),
    /// Manage network cards of a sandbox
    #[command(subcommand)]
    Nic(NicCommand),
    /// Manage routes of a sandbox
    #[command(subcommand)]
    Route(RouteCommand),
    /// Manage static neighbors (ARP and NDP entries) of a sandbox
    #[command(subcommand)]
    Neighbor(NeighborCommand),
    /// Manage IPVS and conntrack with the command line of kata-runtime
    #[command(subcommand)]
    KataIpvs(KataIpvsCommand),
    /// Manage IPVS virtual services with ipvsadm options, or list them without any
    Ipvs(IpvsArgs),
    /// List or delete tracked connections
    #[command(subcommand, after_help = format!("Filter options:\n{}", conntrack::help()))]
    Conntrack(ConntrackCommand),
    /// List or change settings of a sandbox: IPVS, forwarding, limits and timeouts of conntrack
    #[command(subcommand)]
    Sysctl(SysctlCommand),
    /// List all sandboxes: registered ones and Kata's
    List(ListArgs),
    /// Print the network of a sandbox as a document: cards, routes, neighbors, IPVS rules, settings
    Export(ExportArgs),
    /// Change the network of a sandbox to that of a document, by difference
    Apply(ApplyArgs),
    /// Print the changes that apply would make; exit code 1 if there are any
    Diff(DocumentArgs),
    /// Plug cards for the links that are in the network namespaces of sandboxes, and unplug those of links that are gone
    Watch(WatchArgs),
    /// Print the events of sandboxes as they happen: cards, links, addresses, routes, sandboxes
    Monitor(MonitorArgs),
    /// Wait until a sandbox runs and its agent answers, or until a card of it is up, has an address or is gone
    Wait(WaitArgs),
    /// Print metrics of sandboxes, cards and IPVS for Prometheus
    Metrics(MetricsArgs),
    /// Serve these metrics over HTTP
    Exporter(ExporterArgs),
    /// Check whether hot-plug works for a sandbox and explain what is missing
    Doctor(DoctorArgs),
    /// Remove what ended machines and killed commands have left on this host
    Gc,
    /// Install the CNI plugin patchbay-cni; without a command, run as the plugin
    #[command(subcommand)]
    Cni(CniCommand),
    /// Print a shell completion script
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man {
        /// Directory to write to, one page for each command
        dir: PathBuf,
    },
}

/// Commands behind the ID of `ipvs`, for its help.
const IPVS_COMMANDS: &str = "\
Commands behind the ID, each with --help:
  drain            set servers to weight 0, wait, and end the connections that are left
  end-connections  end the connections of servers at once
";

/// Arguments of `ipvs`.
#[derive(Debug, Args)]
#[command(after_help = format!("{IPVS_COMMANDS}\nipvsadm options:\n{}", ipvsadm::help()))]
pub(crate) struct IpvsArgs {
    #[command(flatten)]
    pub(crate) options: IpvsOptions,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// drain, end-connections, or ipvsadm options; without any, or with -L, prints a table on a terminal; -R restores from standard input, -S also saves thresholds
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

/// Sub-commands of `conntrack`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConntrackCommand {
    /// Delete the flows that match a filter and print how many there were
    Delete(ConntrackDeleteArgs),
    /// List the flows that match a filter, or all flows
    List(ConntrackListArgs),
}

/// Arguments of `conntrack delete`.
#[derive(Debug, Args)]
#[command(after_help = format!("Filter options:\n{}", conntrack::help()))]
pub(crate) struct ConntrackDeleteArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// Filter options of conntrack -D
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(crate) words: Vec<String>,
}

/// Arguments of `conntrack list`.
#[derive(Debug, Args)]
#[command(after_help = format!("Filter options:\n{}", conntrack::help()))]
pub(crate) struct ConntrackListArgs {
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// Filter options of conntrack -D
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

/// Options of `ipvs` and `kata-ipvs ipvsadm` that ipvsadm does not have.
#[derive(Debug, Args)]
pub(crate) struct IpvsOptions {
    /// With --restore: delete rules not in the file, keep unchanged ones
    #[arg(long, conflicts_with = "merge")]
    pub(crate) replace: bool,
    /// With --restore: keep rules not in the file
    #[arg(long)]
    pub(crate) merge: bool,
    /// Maximum number of services and servers
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(crate) max_rules: u32,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

/// Sub-commands of `kata-network`.
#[derive(Debug, Subcommand)]
pub(crate) enum KataNetworkCommand {
    /// Plug a card into a running sandbox and configure it in the guest
    AddIface(FileArgs),
    /// Unplug the card with this name in the guest
    DelIface(FileArgs),
    /// List plugged cards as the guest has them now
    ListIfaces(SandboxArg),
    /// Replace the addresses and set the MTU of an interface in the guest
    UpdateIface(FileArgs),
    /// Add a route, or an array of routes, to the guest
    AddRoute(FileArgs),
    /// Delete all routes of the guest that match
    DelRoute(FileArgs),
    /// List the routes of the guest
    ListRoutes(SandboxArg),
    /// Replace the routes of the guest with an array of routes
    UpdateRoutes(FileArgs),
    /// Add a static neighbor, or an array of neighbors, to the guest
    AddNeighbor(FileArgs),
    /// Delete all static neighbors of the guest that match
    DelNeighbor(FileArgs),
    /// List the static neighbors of the guest
    ListNeighbors(SandboxArg),
}

/// Sandbox and JSON document.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// File with the JSON document, or - for standard input
    pub(crate) file: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn parse_missing_id_is_usage_error() {
        let words = ["patchbay", "kata-network", "add-iface"];
        let error = CommandLine::try_parse_from(words).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("<ID>"), "{error}");
    }

    #[test]
    fn parse_timeout_out_of_range_fails() {
        for seconds in ["0", "301", "x", "-1"] {
            let words = [
                "patchbay",
                "--timeout",
                seconds,
                "kata-network",
                "list-ifaces",
                "a",
            ];
            assert!(CommandLine::try_parse_from(words).is_err(), "{seconds}");
        }
    }
}
