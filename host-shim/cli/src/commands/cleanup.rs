//! `kata-ipvs cleanup` and `conntrack delete`: the words of `conntrack -D`, carried out in a guest that has no conntrack.

use patchbay_grammar::conntrack::parse;
use patchbay_grammar::split;
use patchbay_types::failure::{Failure, Kind};

use super::connect;
use crate::args::{CleanupArgs, GlobalArgs, SandboxArg};

/// The words in one argument.
pub(super) fn run(global: &GlobalArgs, args: &CleanupArgs) -> Result<String, Failure> {
    let words = split(&args.parameters).map_err(|open| Failure::of(Kind::Invalid, &open))?;
    delete(global, &args.sandbox, &words)
}

/// Deletes the flows that the words mean, and says how many; none is no failure.
pub(super) fn delete(
    global: &GlobalArgs,
    sandbox: &SandboxArg,
    words: &[String],
) -> Result<String, Failure> {
    let filter = parse(&words)?;
    let deleted = connect(global, sandbox)?.conntrack_delete(&filter)?;
    Ok(format!("{deleted} flow entries have been deleted.\n"))
}
