//! `kata-network list-routes`.

use patchbay_protocols::failure::Failure;

use crate::agent::Agent;
use crate::cli::{Plain, Target};
use crate::output::{Output, Routed};
use crate::sandbox;

pub(super) fn run(target: &Target, args: &Plain) -> Result<Output, Failure> {
    let sandbox = sandbox::find(target, &args.id)?;
    let routes = Agent::connect(&sandbox.agent)?.routes()?;
    Ok(Output::routes(
        routes.into_iter().map(Routed::from).collect(),
    ))
}
