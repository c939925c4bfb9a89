//! Command-line arguments.

mod cni;
mod completions;
mod connections;
mod defaults;
pub(crate) mod examples;
mod format;
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

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use patchbay_grammar::{conntrack, ipvsadm};
use patchbay_host::ops::{self, Condition};
use patchbay_host::sandbox::{self, Lookup, MachineAccess, Sandbox, SandboxId};
use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{GuestNetns, InvalidValue};

use log::LogArgs;

use crate::signals::Signals;
use crate::timings::TimingsFormat;
pub(crate) use cni::{CniCommand, InstallArgs};
pub(crate) use completions::{CompletionsArgs, Program};
pub(crate) use connections::{ConnectionsCommand, ServersArgs};
pub(crate) use format::FormatArg;
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
}

/// Options that locate sandboxes and their guests.
#[derive(Debug, Args)]
#[command(next_help_heading = GLOBAL_HEADING)]
pub(crate) struct GlobalArgs {
    /// QMP socket of a machine that is not in any run directory
    #[arg(long, global = true, value_name = "PATH", requires = "agent")]
    qmp: Option<PathBuf>,
    /// Agent of that machine: `vsock://CID:PORT`, `hvsock:///PATH:PORT` or `unix:///PATH`
    #[arg(long, global = true, value_name = "URL", requires = "qmp")]
    agent: Option<Endpoint>,
    /// Network namespace of the TAP devices, a name or a path, instead of the sandbox's [default with --qmp: the caller's]; without --qmp, for ipvs, conntrack and sysctl, the same as --guest-netns
    #[arg(long, global = true, value_name = "NETNS")]
    netns: Option<PathBuf>,
    /// Network namespace in the guest that ipvs, conntrack and sysctl work in: a process id or a path there
    #[arg(long, global = true, value_name = "PID|PATH")]
    guest_netns: Option<GuestNetns>,
    /// Directory in which sandboxes are registered
    #[arg(long, global = true, value_name = "DIR", env = "PATCHBAY_RUN_DIR")]
    #[arg(default_value = "/run/patchbay")]
    run_dir: PathBuf,
    /// Roots to search for Kata's directories, instead of / and the user's runtime directory
    #[arg(long = "kata-root", global = true, value_name = "DIR", hide = true)]
    #[arg(env = "PATCHBAY_KATA_ROOTS", value_delimiter = ':')]
    kata_roots: Vec<PathBuf>,
    /// Timeout for the guest to detect and configure a card, and of wait, 1 to 300 seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// Wait first until the sandbox runs and its agent answers, at most for --timeout
    #[arg(long = "wait", global = true)]
    is_awaited: bool,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[arg(skip)]
    pub(crate) signals: Signals,
    /// Machines that the configuration names.
    #[arg(skip)]
    pub(crate) named: BTreeMap<SandboxId, MachineAccess>,
}

impl GlobalArgs {
    /// Finds the sandbox that `arg` names, for a command that has no namespace of the guest.
    pub(crate) fn find(&self, arg: &SandboxArg) -> Result<Sandbox, Failure> {
        self.check_no_guest_netns()?;
        self.find_any(arg)
    }

    /// The same for a command that looks for it repeatedly, and thus does not wait.
    pub(crate) fn find_present(&self, arg: &SandboxArg) -> Result<Sandbox, Failure> {
        self.check_no_guest_netns()?;
        self.find_now(arg)
    }

    fn check_no_guest_netns(&self) -> Result<(), Failure> {
        if self.guest_netns.is_none() {
            return Ok(());
        }
        let rule = "--guest-netns is for ipvs, conntrack and sysctl only";
        Err(Failure::new(Kind::Invalid, rule))
    }

    /// Returns the namespace of the guest, for commands to which TAP devices don't matter: without `--qmp`,
    /// `--netns` is one too.
    pub(crate) fn guest_netns(&self) -> Result<Option<GuestNetns>, Failure> {
        match (&self.guest_netns, &self.netns, &self.qmp) {
            (Some(_), Some(_), None) => {
                let rule = "--netns and --guest-netns exclude each other without --qmp";
                Err(Failure::new(Kind::Invalid, rule))
            }
            (None, Some(netns), None) => {
                let netns = netns.to_string_lossy().parse();
                let invalid = |bad: InvalidValue| bad.in_field("--netns");
                Ok(Some(netns.map_err(invalid)?))
            }
            (netns, ..) => Ok(netns.clone()),
        }
    }

    /// Returns the places to look for sandboxes.
    pub(crate) fn lookup(&self) -> Lookup {
        let machine = self.qmp.clone().zip(self.agent.clone());
        Lookup {
            run_dir: self.run_dir.clone(),
            kata_roots: self.kata_roots.clone(),
            machine: machine.map(|(qmp, agent)| MachineAccess {
                qmp,
                agent,
                netns: self.netns.clone(),
            }),
            named: self.named.clone(),
            interrupt: self.signals.interrupt.clone(),
        }
    }

    /// Finds the sandbox that `arg` names, and waits for it with `--wait`.
    pub(crate) fn find_any(&self, arg: &SandboxArg) -> Result<Sandbox, Failure> {
        if self.is_awaited {
            let find = || self.find_now(arg);
            ops::await_condition(&find, &Condition::Ready, self.timeout)?;
        }
        self.find_now(arg)
    }

    /// Finds the sandbox that `arg` names.
    pub(crate) fn find_now(&self, arg: &SandboxArg) -> Result<Sandbox, Failure> {
        let mut sandbox = sandbox::find(&self.lookup(), &arg.id)?;
        if let Some(netns) = &self.netns {
            sandbox.netns = Some(sandbox::netns_path(netns));
        }
        Ok(sandbox)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(number @ 1..=300) => Ok(Duration::from_secs(number)),
        _ => Err("must be 1 to 300 seconds".to_owned()),
    }
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
