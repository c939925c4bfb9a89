//! The commands, one file each.

mod add_iface;
mod cleanup;
mod del_iface;
mod ipvs;
mod list_ifaces;

use crate::cli::{Cli, Command, Conntrack, KataIpvs, KataNetwork};
use crate::output::{Ended, Output};

/// Carries out what the command line says.
#[must_use]
pub fn run(cli: &Cli) -> Ended {
    let target = &cli.target;
    match &cli.command {
        Command::KataNetwork(KataNetwork::AddIface(args)) => {
            or_null(add_iface::run(target, args).map(Output::Added))
        }
        Command::KataNetwork(KataNetwork::DelIface(args)) => del_iface::run(target, args),
        Command::KataNetwork(KataNetwork::ListIfaces(args)) => {
            or_null(list_ifaces::run(target, args))
        }
        Command::KataIpvs(KataIpvs::Ipvsadm(args)) => or_nothing(ipvs::ipvsadm(target, args)),
        Command::KataIpvs(KataIpvs::Cleanup(args)) => or_nothing(cleanup::run(target, args)),
        Command::Ipvs(args) => or_nothing(ipvs::native(target, args)),
        Command::Conntrack(Conntrack::Delete(args)) => or_nothing(cleanup::native(target, args)),
    }
}

/// The user guide: `kata-ipvs` prints nothing when it fails.
fn or_nothing(done: Result<Output, patchbay_protocols::failure::Failure>) -> Ended {
    match done {
        Ok(output) => Ended::with(output),
        Err(failure) => Ended::badly(Output::Nothing, failure),
    }
}

/// The user guide: a command that fails prints `null`.
fn or_null(done: Result<Output, patchbay_protocols::failure::Failure>) -> Ended {
    match done {
        Ok(output) => Ended::with(output),
        Err(failure) => Ended::badly(Output::Null, failure),
    }
}
