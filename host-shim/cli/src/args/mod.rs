//! The words of the command line.

mod native;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use patchbay_host::sandbox::{Lookup, MachineAccess};
use patchbay_types::endpoint::Endpoint;

pub use native::{
    NativeList, Nic, NicAdd, NicName, NicSet, Printing, RouteArgs, RouteCommand, SysctlSet,
    SysctlWords,
};

/// Plugs network cards into running QEMU sandboxes and configures them inside.
#[derive(Debug, Parser)]
#[command(name = "patchbay", version, propagate_version = true)]
pub struct Cli {
    /// Which sandbox, and how it is reached.
    #[command(flatten)]
    pub target: Target,
    /// Print on standard error how long each phase took
    #[arg(long, global = true)]
    pub timings: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which sandbox, and how it is reached.
#[derive(Debug, Args)]
pub struct Target {
    /// QMP socket of a machine that no run directory knows
    #[arg(long, global = true, value_name = "PATH", requires = "agent")]
    pub qmp: Option<PathBuf>,
    /// Its agent: `vsock://CID:PORT`, `hvsock:///PATH:PORT` or `unix:///PATH`
    #[arg(long, global = true, value_name = "URL", requires = "qmp")]
    pub agent: Option<Endpoint>,
    /// Network namespace of its TAP devices: a name or a path [default: the caller's]
    #[arg(long, global = true, value_name = "NETNS", requires = "qmp")]
    pub netns: Option<PathBuf>,
    /// Where sandboxes are registered
    #[arg(long, global = true, value_name = "DIR", env = "PATCHBAY_RUN_DIR")]
    #[arg(default_value = "/run/patchbay")]
    pub run_dir: PathBuf,
    /// Where the folders of Kata are looked for, instead of / and the user's runtime directory
    #[arg(long = "kata-root", global = true, value_name = "DIR", hide = true)]
    #[arg(env = "PATCHBAY_KATA_ROOTS", value_delimiter = ':')]
    pub kata_roots: Vec<PathBuf>,
    /// Seconds that the guest gets to show and configure a card, 1 to 300
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = seconds)]
    pub timeout: Duration,
}

impl Target {
    /// The lookup that the options describe.
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
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(number @ 1..=300) => Ok(Duration::from_secs(number)),
        _ => Err("a timeout is 1 to 300 seconds".to_owned()),
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Network cards and routes, in the incumbent's words and JSON
    #[command(subcommand)]
    KataNetwork(KataNetwork),
    /// Network cards of a sandbox
    #[command(subcommand)]
    Nic(Nic),
    /// Routes of a sandbox
    #[command(subcommand)]
    Route(RouteCommand),
    /// IPVS and conntrack, in the incumbent's words
    #[command(subcommand)]
    KataIpvs(KataIpvs),
    /// Virtual services, in ipvsadm's words one by one; without any they are listed
    Ipvs(Ipvs),
    /// Tracked connections
    #[command(subcommand)]
    Conntrack(Conntrack),
    /// Settings of IPVS in a sandbox: net.ipv4.vs and nothing else
    #[command(subcommand)]
    Sysctl(SysctlWords),
    /// Tell what of plugging works on a sandbox, what is missing, and what each costs
    Doctor(Doctor),
    /// Print the completions of these commands for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual pages of these commands
    Man {
        /// Folder that gets one page for each command
        dir: PathBuf,
    },
}

/// What `ipvs` takes.
#[derive(Debug, Args)]
pub struct Ipvs {
    /// How it is carried out
    #[command(flatten)]
    pub options: IpvsOptions,
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub id: String,
    /// ipvsadm's words; none or -L prints a table on a terminal; -R reads a rule file from standard input, -S saves thresholds too
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// The sub-commands of `conntrack`.
#[derive(Debug, Subcommand)]
pub enum Conntrack {
    /// Delete the flows that the words mean, and say how many there were
    Delete(ConntrackDelete),
    /// List the flows that the words mean; all without any
    List(ConntrackList),
}

/// What `conntrack delete` takes.
#[derive(Debug, Args)]
pub struct ConntrackDelete {
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub id: String,
    /// The words that stand behind conntrack -D
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub words: Vec<String>,
}

/// What `conntrack list` takes.
#[derive(Debug, Args)]
pub struct ConntrackList {
    /// How to print
    #[command(flatten)]
    pub printing: Printing,
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub id: String,
    /// The words of conntrack delete
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// The sub-commands of `kata-ipvs`.
#[derive(Debug, Subcommand)]
pub enum KataIpvs {
    /// Change or show the virtual services, in ipvsadm's words
    Ipvsadm(Ipvsadm),
    /// Delete tracked connections, in the words that stand behind conntrack -D
    Cleanup(Cleanup),
}

/// What `kata-ipvs cleanup` takes.
#[derive(Debug, Args)]
pub struct Cleanup {
    /// Which flows: --orig-dst ADDRESS --protonum PROTOCOL and conntrack's other filters
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub parameters: String,
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub id: String,
}

/// What `kata-ipvs ipvsadm` takes.
#[derive(Debug, Args)]
pub struct Ipvsadm {
    /// ipvsadm's words, in one argument; --help among them lists them
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub parameters: Option<String>,
    /// Restore a rule file: - for standard input
    #[arg(long, value_name = "-", allow_hyphen_values = true)]
    pub restore: Option<String>,
    /// How it is carried out
    #[command(flatten)]
    pub options: IpvsOptions,
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub id: String,
}

/// How ipvsadm's words are carried out, beyond those words.
#[derive(Debug, Args)]
pub struct IpvsOptions {
    /// Restore: what the file does not name goes, what it does name is not touched
    #[arg(long, conflicts_with = "merge")]
    pub replace: bool,
    /// Restore: what the file does not name stays
    #[arg(long)]
    pub merge: bool,
    /// Most services and servers that there may be
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub max_rules: u32,
    /// Show as JSON, counters in full
    #[arg(long)]
    pub json: bool,
}

/// A sandbox, and how to print.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub id: String,
    #[arg(long)]
    #[doc = "Print one line of JSON"]
    pub json: bool,
}

/// The sub-commands of `kata-network`.
#[derive(Debug, Subcommand)]
pub enum KataNetwork {
    /// Plug a card into a running sandbox and configure it inside
    AddIface(WithFile),
    /// Unplug a card, by the name that it has inside
    DelIface(WithFile),
    /// List the cards that were plugged, as the guest has them now
    ListIfaces(Plain),
    /// Change the addresses and the MTU of an interface inside, by difference
    UpdateIface(WithFile),
    /// Add a route, or an array of them, to the guest
    AddRoute(WithFile),
    /// Delete every route of the guest that agrees with all that is given
    DelRoute(WithFile),
    /// List the routes of the guest
    ListRoutes(Plain),
    /// Make an array of routes the routes of the guest, by difference
    UpdateRoutes(WithFile),
}

/// A sandbox and a JSON document.
#[derive(Debug, Args)]
pub struct WithFile {
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub id: String,
    /// File with the JSON document, or - for standard input
    pub file: PathBuf,
}

/// A sandbox alone.
#[derive(Debug, Args)]
pub struct Plain {
    /// Sandbox or container: its id, or a prefix of it that no other has
    pub id: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_words_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_missing_id_is_a_usage_error() {
        let error = Cli::try_parse_from(["kata-runtime", "kata-network", "add-iface"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("<ID>"), "{error}");
    }

    #[test]
    fn the_timeout_has_a_range() {
        for seconds in ["0", "301", "x", "-1"] {
            let words = [
                "patchbay",
                "--timeout",
                seconds,
                "kata-network",
                "list-ifaces",
                "a",
            ];
            assert!(Cli::try_parse_from(words).is_err(), "{seconds}");
        }
    }
}
