//! The commands, one file each.

mod add_iface;
mod del_iface;
mod doctor;
mod list_ifaces;

use crate::cli::{Cli, Command, KataNetwork};
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
        Command::Doctor(args) => doctor::run(target, args),
    }
}

/// The user guide: a command that fails prints `null`.
fn or_null(done: Result<Output, patchbay_protocols::failure::Failure>) -> Ended {
    match done {
        Ok(output) => Ended::with(output),
        Err(failure) => Ended::badly(Output::Null, failure),
    }
}
