//! The commands, one file each.

mod add_iface;
mod cleanup;
mod conntrack;
mod del_iface;
mod doctor;
mod ipvs;
mod list_ifaces;
mod manual;
mod nic;
mod routes;
mod sysctl;
mod update_iface;

use std::thread;

use patchbay_types::Interface;
use patchbay_types::failure::{Failure, Kind};

use crate::args::{Cli, Command, KataIpvs, KataNetwork, Target};
use crate::output::{Ended, Output};
use patchbay_host::agent::Agent;
use patchbay_host::qmp;
use patchbay_host::sandbox::Sandbox;

/// Carries out what the command line says.
#[must_use]
pub fn run(cli: &Cli) -> Ended {
    let target = &cli.target;
    match &cli.command {
        Command::KataNetwork(words) => kata_network(target, words),
        Command::Nic(words) => nic::run(target, words),
        Command::Route(words) => routes::native(target, words),
        Command::KataIpvs(KataIpvs::Ipvsadm(args)) => or_nothing(ipvs::ipvsadm(target, args)),
        Command::KataIpvs(KataIpvs::Cleanup(args)) => or_nothing(cleanup::run(target, args)),
        Command::Ipvs(args) => or_nothing(ipvs::native(target, args)),
        Command::Conntrack(words) => conntrack::run(target, words),
        Command::Sysctl(words) => sysctl::run(target, words),
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
        KataNetwork::AddRoute(args) => or_null(routes::add(target, args)),
        KataNetwork::DelRoute(args) => or_null(routes::delete(target, args)),
        KataNetwork::ListRoutes(args) => or_null(routes::list(target, args)),
        KataNetwork::UpdateRoutes(args) => or_null(routes::update(target, args)),
    }
}

/// What the machine has and what the guest has, asked at once.
fn look<T>(
    sandbox: &Sandbox,
    machine: impl FnOnce() -> Result<T, qmp::Error>,
) -> Result<(T, Agent, Vec<Interface>), Failure> {
    // In its turn: a proxy of vsock may not survive a connection that is given up half made.
    let agent = Agent::connect(&sandbox.agent)?;
    let (machine, guest) = thread::scope(|scope| {
        let guest = scope.spawn(move || {
            let interfaces = agent.interfaces()?;
            Ok::<_, Failure>((agent, interfaces))
        });
        (machine(), guest.join())
    });
    let machine = machine?;
    let died = |_| Failure::new(Kind::Other, "asking the agent came to a sudden end");
    let (agent, interfaces) = guest.map_err(died)??;
    Ok((machine, agent, interfaces))
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
