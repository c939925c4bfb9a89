//! `conntrack`: the flows that a guest tracks.

use patchbay_grammar::conntrack::parse;
use patchbay_types::conntrack::Filter;
use patchbay_types::failure::Failure;

use super::{cleanup, or_nothing};
use crate::args::{Conntrack, ConntrackList, Target};
use crate::output::{Ended, Output};
use patchbay_host::agent::Agent;
use patchbay_host::sandbox;

pub(super) fn run(target: &Target, words: &Conntrack) -> Ended {
    match words {
        Conntrack::Delete(words) => or_nothing(cleanup::delete(target, &words.id, &words.words)),
        Conntrack::List(words) => or_nothing(list(target, words)).printed(&words.printing),
    }
}

/// The words of a filter, or none for all flows.
fn filter(words: &[String]) -> Result<Option<Filter>, Failure> {
    if words.is_empty() {
        return Ok(None);
    }
    Ok(Some(parse(&words)?))
}

fn list(target: &Target, args: &ConntrackList) -> Result<Output, Failure> {
    let only = filter(&args.words)?;
    let agent = Agent::connect(&sandbox::find(&target.lookup(), &args.id)?.agent)?;
    let flows = agent.conntrack_list(only.as_ref())?;
    Ok(Output::Flows(flows.iter().map(Into::into).collect()))
}
