//! The commands, one file each.

mod add_iface;
mod add_route;
mod cleanup;
mod del_iface;
mod del_route;
mod doctor;
mod ipvs;
mod list_ifaces;
mod list_routes;
mod manual;
mod nic;
mod route;
mod update_iface;
mod update_routes;

use patchbay_protocols::failure::Failure;

use crate::cli::{Cli, Command, Conntrack, KataIpvs, KataNetwork, Target};
use crate::output::{Ended, Output};

/// Carries out what the command line says.
#[must_use]
pub fn run(cli: &Cli) -> Ended {
    let target = &cli.target;
    match &cli.command {
        Command::KataNetwork(words) => kata_network(target, words),
        Command::Nic(words) => nic::run(target, words),
        Command::Route(words) => route::run(target, words),
        Command::KataIpvs(KataIpvs::Ipvsadm(args)) => or_nothing(ipvs::ipvsadm(target, args)),
        Command::KataIpvs(KataIpvs::Cleanup(args)) => or_nothing(cleanup::run(target, args)),
        Command::Ipvs(args) => or_nothing(ipvs::native(target, args)),
        Command::Conntrack(Conntrack::Delete(args)) => or_nothing(cleanup::native(target, args)),
        Command::Doctor(args) => doctor::run(target, args),
        Command::Completions { shell } => Ended::with(manual::completions(*shell)),
        Command::Man { dir } => manual::pages(dir),
    }
}

fn kata_network(target: &Target, words: &KataNetwork) -> Ended {
    match words {
        KataNetwork::AddIface(args) => or_null(add_iface::run(target, args).map(Output::Added)),
        KataNetwork::DelIface(args) => del_iface::run(target, args),
        KataNetwork::ListIfaces(args) => or_null(list_ifaces::run(target, args)),
        KataNetwork::UpdateIface(args) => {
            or_null(update_iface::run(target, args).map(Output::Updated))
        }
        KataNetwork::AddRoute(args) => or_null(add_route::run(target, args)),
        KataNetwork::DelRoute(args) => or_null(del_route::run(target, args)),
        KataNetwork::ListRoutes(args) => or_null(list_routes::run(target, args)),
        KataNetwork::UpdateRoutes(args) => or_null(update_routes::run(target, args)),
    }
}

/// The user guide: a command that fails prints `null`.
fn or_null(done: Result<Output, Failure>) -> Ended {
    match done {
        Ok(output) => Ended::with(output),
        Err(failure) => Ended::badly(Output::Null, failure),
    }
}

/// A native command that fails prints nothing on standard output, and neither does `kata-ipvs`.
fn or_nothing(done: Result<Output, Failure>) -> Ended {
    match done {
        Ok(output) => Ended::with(output),
        Err(failure) => Ended::badly(Output::Nothing, failure),
    }
}
