//! `kata-network list-routes`.

use patchbay_protocols::failure::Failure;
use patchbay_protocols::model::Route;

use crate::agent::Agent;
use crate::cli::{Plain, Target};
use crate::output::{Output, Routed};
use crate::sandbox;

/// The guest's routes.
pub(super) fn routes(target: &Target, id: &str) -> Result<Vec<Route>, Failure> {
    let sandbox = sandbox::find(target, id)?;
    Agent::connect(&sandbox.agent)?.routes()
}

pub(super) fn run(target: &Target, args: &Plain) -> Result<Output, Failure> {
    let routes = routes(target, &args.id)?;
    Ok(Output::routes(
        routes.into_iter().map(Routed::from).collect(),
    ))
}
