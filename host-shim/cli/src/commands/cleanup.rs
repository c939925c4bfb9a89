//! `kata-ipvs cleanup` and `conntrack delete`: the words of `conntrack -D`, carried out in a guest that has no conntrack.

use patchbay_grammar::conntrack::parse;
use patchbay_grammar::split;
use patchbay_types::failure::{Failure, Kind};

use crate::args::{Cleanup, Target};
use crate::output::Output;
use patchbay_host::agent::Agent;
use patchbay_host::sandbox;

/// The words in one argument.
pub(super) fn run(target: &Target, args: &Cleanup) -> Result<Output, Failure> {
    let words = split(&args.parameters).map_err(|open| Failure::of(Kind::Invalid, &open))?;
    delete(target, &args.id, &words)
}

/// Deletes the flows that the words mean, and says how many; none is no failure.
pub(super) fn delete(target: &Target, id: &str, words: &[String]) -> Result<Output, Failure> {
    let filter = parse(&words)?;
    let agent = Agent::connect(&sandbox::find(&target.lookup(), id)?.agent)?;
    let deleted = agent.conntrack_delete(&filter)?;
    let sentence = format!("{deleted} flow entries have been deleted.\n");
    Ok(Output::Text(sentence.into()))
}
