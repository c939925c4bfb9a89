//! `conntrack` and `kata-ipvs cleanup`: the guest's tracked connections, with the filter options of
//! `conntrack -D`.

use patchbay_grammar::conntrack::parse;
use patchbay_grammar::split;
use patchbay_types::failure::{Failure, Kind};

use super::{connect_in_netns, connections};
use crate::args::{CleanupArgs, ConntrackCommand, ConntrackListArgs, GlobalArgs, SandboxArg};
use crate::name_service::HostsAndServices;
use crate::output::flows;

pub(super) fn run(global: &GlobalArgs, command: &ConntrackCommand) -> Result<String, Failure> {
    match command {
        ConntrackCommand::Delete(args) => delete(global, &args.sandbox, &args.words),
        ConntrackCommand::List(args) => list(global, args),
    }
}

/// Runs `kata-ipvs cleanup`, which has the options in one argument.
pub(super) fn cleanup(global: &GlobalArgs, args: &CleanupArgs) -> Result<String, Failure> {
    let words = split(&args.parameters).map_err(|error| Failure::of(Kind::Invalid, &error))?;
    delete(global, &args.sandbox, &words)
}

/// Deletes the matching flows and returns their number as a sentence. No match is not a failure.
fn delete(global: &GlobalArgs, sandbox: &SandboxArg, words: &[String]) -> Result<String, Failure> {
    let filter = parse(&HostsAndServices::of_machine(), words)?;
    let agent = connect_in_netns(global, sandbox)?;
    let deleted = agent.conntrack_delete(&filter)?;
    let command = connections::ipvs_command(global, sandbox)?;
    connections::warn_of_filtered(&agent, &command, &filter);
    Ok(format!("{deleted} flow entries have been deleted.\n"))
}

fn list(global: &GlobalArgs, args: &ConntrackListArgs) -> Result<String, Failure> {
    let filter = match args.words.as_slice() {
        [] => None,
        words => Some(parse(&HostsAndServices::of_machine(), words)?),
    };
    let flows = connect_in_netns(global, &args.sandbox)?.conntrack_list(filter.as_ref())?;
    let flows: Vec<_> = flows.iter().map(flows::flow).collect();
    args.format.format().render(flows::FLOWS, &flows)
}
