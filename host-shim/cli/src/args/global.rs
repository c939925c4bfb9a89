//! Options of all commands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use patchbay_host::ops::{self, Condition};
use patchbay_host::sandbox::{self, Lookup, MachineAccess, NamedMachine, Sandbox, SandboxId};
use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{GuestNetns, InvalidValue};

use super::log::LogArgs;
use super::{GLOBAL_HEADING, SandboxArg};
use crate::signals::Signals;

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
    pub(crate) named: BTreeMap<SandboxId, NamedMachine>,
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

    pub(crate) fn run_dir(&self) -> &Path {
        &self.run_dir
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

    /// Returns the places to look for sandboxes, for a command that names none.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with `--wait`.
    pub(crate) fn lookup_all(&self) -> Result<Lookup, Failure> {
        if self.is_awaited {
            let rule = "--wait is for commands of one sandbox; use patchbay wait ID first";
            return Err(Failure::new(Kind::Invalid, rule));
        }
        Ok(self.lookup())
    }

    /// The same for a command that follows all sandboxes. `output` has the names of the sandboxes.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with `--wait`, and with `--qmp`, whose machine has no name without an ID.
    pub(crate) fn lookup_to_follow(&self, output: &str) -> Result<Lookup, Failure> {
        let lookup = self.lookup_all()?;
        if lookup.machine.is_some() {
            let rule = format!("--qmp needs an ID, by which the machine is named in {output}");
            return Err(Failure::new(Kind::Invalid, rule));
        }
        Ok(lookup)
    }

    /// Waits for sandboxes with `--wait`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with `--wait` and without a sandbox.
    pub(crate) fn await_each(&self, ids: &[String]) -> Result<(), Failure> {
        if ids.is_empty() {
            self.lookup_all()?;
        }
        for id in ids.iter().filter(|_| self.is_awaited) {
            self.find(&SandboxArg { id: id.clone() })?;
        }
        Ok(())
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
