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

use crate::args::{
    CommandLine, GlobalArgs, KataIpvsCommand, KataNetworkCommand, PatchbayCommand, SandboxArg,
};
use crate::output::Outcome;
use patchbay_host::agent::Agent;
use patchbay_host::qmp;
use patchbay_host::sandbox::Sandbox;

/// Runs the command.
pub(crate) fn run(args: &CommandLine) -> Outcome {
    let global = &args.global;
    let silent_or = Outcome::silent_or;
    match &args.command {
        PatchbayCommand::KataNetwork(command) => kata_network(global, command),
        PatchbayCommand::Nic(command) => silent_or(nic::run(global, command)),
        PatchbayCommand::Route(command) => silent_or(routes::native(global, command)),
        PatchbayCommand::KataIpvs(KataIpvsCommand::Ipvsadm(args)) => {
            silent_or(ipvs::ipvsadm(global, args))
        }
        PatchbayCommand::KataIpvs(KataIpvsCommand::Cleanup(args)) => {
            silent_or(cleanup::run(global, args))
        }
        PatchbayCommand::Ipvs(args) => silent_or(ipvs::native(global, args)),
        PatchbayCommand::Conntrack(command) => silent_or(conntrack::run(global, command)),
        PatchbayCommand::Sysctl(command) => silent_or(sysctl::run(global, command)),
        PatchbayCommand::Doctor(args) => doctor::run(global, args),
        PatchbayCommand::Completions { shell } => Outcome::succeeded(manual::completions(*shell)),
        PatchbayCommand::Man { dir } => silent_or(manual::write_pages(dir)),
    }
}

fn kata_network(global: &GlobalArgs, command: &KataNetworkCommand) -> Outcome {
    Outcome::json_null_or(match command {
        KataNetworkCommand::AddIface(args) => add_iface::run(global, args),
        KataNetworkCommand::DelIface(args) => return del_iface::run(global, args),
        KataNetworkCommand::ListIfaces(sandbox) => list_ifaces::run(global, sandbox),
        KataNetworkCommand::UpdateIface(args) => update_iface::run(global, args),
        KataNetworkCommand::AddRoute(args) => routes::add(global, args),
        KataNetworkCommand::DelRoute(args) => routes::delete(global, args),
        KataNetworkCommand::ListRoutes(sandbox) => routes::list(global, sandbox),
        KataNetworkCommand::UpdateRoutes(args) => routes::update(global, args),
    })
}

/// Connects to the agent of a sandbox.
fn connect(global: &GlobalArgs, sandbox: &SandboxArg) -> Result<Agent, Failure> {
    Agent::connect(&global.find(sandbox)?.agent)
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
    let died = |_| {
        Failure::new(
            Kind::Other,
            "internal error: the thread that queries the agent panicked",
        )
    };
    let (agent, interfaces) = guest.map_err(died)??;
    Ok((machine, agent, interfaces))
}
