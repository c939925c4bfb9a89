//! `conntrack`: the flows that a guest tracks.

use patchbay_grammar::conntrack::parse;
use patchbay_types::conntrack::Filter;
use patchbay_types::failure::Failure;

use super::{cleanup, connect};
use crate::args::{ConntrackCommand, ConntrackListArgs, GlobalArgs};
use crate::output::FlowJson;

pub(super) fn run(global: &GlobalArgs, command: &ConntrackCommand) -> Result<String, Failure> {
    match command {
        ConntrackCommand::Delete(args) => cleanup::delete(global, &args.sandbox, &args.words),
        ConntrackCommand::List(args) => list(global, args),
    }
}

/// The words of a filter, or none for all flows.
fn filter(words: &[String]) -> Result<Option<Filter>, Failure> {
    if words.is_empty() {
        return Ok(None);
    }
    Ok(Some(parse(&words)?))
}

fn list(global: &GlobalArgs, args: &ConntrackListArgs) -> Result<String, Failure> {
    let only = filter(&args.words)?;
    let flows = connect(global, &args.sandbox)?.conntrack_list(only.as_ref())?;
    let flows: Vec<FlowJson> = flows.iter().map(FlowJson::from).collect();
    args.format.format().render(&flows)
}
