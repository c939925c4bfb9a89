//! `kata-network list-routes`.

use patchbay_types::Route;
use patchbay_types::failure::Failure;

use crate::args::{Plain, Target};
use crate::output::{Output, Routed};
use patchbay_host::agent::Agent;
use patchbay_host::sandbox;

/// The guest's routes.
pub(super) fn routes(target: &Target, id: &str) -> Result<Vec<Route>, Failure> {
    let sandbox = sandbox::find(&target.lookup(), id)?;
    Agent::connect(&sandbox.agent)?.routes()
}

pub(super) fn run(target: &Target, args: &Plain) -> Result<Output, Failure> {
    let routes = routes(target, &args.id)?;
    Ok(Output::routes(
        routes.into_iter().map(Routed::from).collect(),
    ))
}
