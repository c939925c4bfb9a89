//! Commands: each returns the text for standard output or a failure.

mod cards;
mod cni;
mod connections;
mod conntrack;
mod doctor;
mod ipvs;
mod manual;
mod metrics;
mod monitor;
mod neighbors;
mod network;
mod routes;
mod sysctl;
mod traffic;
mod wait;
mod watch;

use patchbay_types::failure::Failure;

use crate::args::{
    CommandLine, GlobalArgs, KataIpvsCommand, KataNetworkCommand, ListArgs, PatchbayCommand,
    SandboxArg,
};
use crate::completion;
use crate::output::{Outcome, sandboxes};
use patchbay_host::agent::{Agent, AnyAgent};
use patchbay_host::{ops, sandbox};

/// Runs the command.
pub(crate) fn run(args: &CommandLine) -> Outcome {
    let global = &args.global;
    let silent_or = Outcome::silent_or;
    match &args.command {
        PatchbayCommand::KataNetwork(command) => kata_network(global, command),
        PatchbayCommand::Nic(command) => silent_or(cards::native(global, command)),
        PatchbayCommand::Route(command) => silent_or(routes::native(global, command)),
        PatchbayCommand::Neighbor(command) => silent_or(neighbors::native(global, command)),
        PatchbayCommand::KataIpvs(KataIpvsCommand::Ipvsadm(args)) => {
            silent_or(ipvs::ipvsadm(global, args))
        }
        PatchbayCommand::KataIpvs(KataIpvsCommand::Cleanup(args)) => {
            silent_or(conntrack::cleanup(global, args))
        }
        PatchbayCommand::Ipvs(args) => silent_or(ipvs::native(global, args)),
        PatchbayCommand::Conntrack(command) => silent_or(conntrack::run(global, command)),
        PatchbayCommand::Sysctl(command) => silent_or(sysctl::run(global, command)),
        PatchbayCommand::List(args) => silent_or(list(global, args)),
        PatchbayCommand::Export(args) => silent_or(network::export(global, args)),
        PatchbayCommand::Apply(args) => silent_or(network::apply(global, args)),
        PatchbayCommand::Diff(args) => network::diff(global, args),
        PatchbayCommand::Watch(args) => watch::run(global, args),
        PatchbayCommand::Monitor(args) => silent_or(monitor::run(global, args)),
        PatchbayCommand::Wait(args) => silent_or(wait::run(global, args)),
        PatchbayCommand::Metrics(args) => silent_or(metrics::print(global, args)),
        PatchbayCommand::Exporter(args) => silent_or(metrics::serve(global, args)),
        PatchbayCommand::Doctor(args) => doctor::run(global, args),
        PatchbayCommand::Gc => silent_or(gc(global)),
        PatchbayCommand::Cni(command) => silent_or(cni::run(command)),
        PatchbayCommand::Completions(args) => silent_or(completion::script(args)),
        PatchbayCommand::Man { dir } => silent_or(manual::write_pages(dir)),
    }
}

/// Returns the outcome of a command that fails before it runs.
pub(crate) fn failed(args: &CommandLine, failure: Failure) -> Outcome {
    match &args.command {
        PatchbayCommand::KataNetwork(_) => Outcome::json_null_or(Err(failure)),
        _ => Outcome::silent_or(Err(failure)),
    }
}

fn kata_network(global: &GlobalArgs, command: &KataNetworkCommand) -> Outcome {
    global.signals.print_at_end("null\n");
    Outcome::json_null_or(match command {
        KataNetworkCommand::AddIface(args) => cards::add(global, args),
        KataNetworkCommand::DelIface(args) => return cards::delete(global, args),
        KataNetworkCommand::ListIfaces(sandbox) => cards::list(global, sandbox),
        KataNetworkCommand::UpdateIface(args) => cards::update(global, args),
        KataNetworkCommand::AddRoute(args) => routes::add(global, args),
        KataNetworkCommand::DelRoute(args) => routes::delete(global, args),
        KataNetworkCommand::ListRoutes(sandbox) => routes::list(global, sandbox),
        KataNetworkCommand::UpdateRoutes(args) => routes::update(global, args),
        KataNetworkCommand::AddNeighbor(args) => neighbors::add(global, args),
        KataNetworkCommand::DelNeighbor(args) => neighbors::delete(global, args),
        KataNetworkCommand::ListNeighbors(sandbox) => neighbors::list(global, sandbox),
    })
}

/// `list`.
fn list(global: &GlobalArgs, args: &ListArgs) -> Result<String, Failure> {
    let lookup = global.lookup_all()?;
    sandbox::warn_of_left_out(&lookup)?;
    let rows = ops::overview(&lookup)?;
    args.format.format().render(sandboxes::COLUMNS, &rows)
}

/// `gc`.
fn gc(global: &GlobalArgs) -> Result<String, Failure> {
    ops::gc(&global.lookup_all()?)?;
    Ok(String::new())
}

/// Connects to the agent of a sandbox, or of the namespace in the guest that the command line names.
fn connect_in_netns(global: &GlobalArgs, sandbox: &SandboxArg) -> Result<Agent, Failure> {
    let netns = global.guest_netns()?;
    let agent = ops::connect(&global.find_any(sandbox)?)?.into_patchbay()?;
    match netns {
        Some(netns) => agent.in_netns(&netns),
        None => Ok(agent),
    }
}

/// Connects to the agent of a sandbox.
fn connect(global: &GlobalArgs, sandbox: &SandboxArg) -> Result<AnyAgent, Failure> {
    ops::connect(&global.find(sandbox)?)
}
