//! `kata-network add-route`.

use patchbay_protocols::failure::Failure;
use patchbay_protocols::model::RouteSpec;

use crate::agent::Agent;
use crate::cli::{Target, WithFile};
use crate::input::route;
use crate::output::{Output, Routed};
use crate::sandbox::{self, Lock};

pub(super) fn run(target: &Target, args: &WithFile) -> Result<Output, Failure> {
    add(target, &args.id, route::to_add(&args.file)?)
}

/// Adds the routes.
pub(super) fn add(
    target: &Target,
    id: &str,
    asked: Vec<(RouteSpec, Routed)>,
) -> Result<Output, Failure> {
    let sandbox = sandbox::find(target, id)?;
    let _lock = Lock::take(&sandbox.state)?;
    let (specs, echo): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    Agent::connect(&sandbox.agent)?.add_routes(&specs)?;
    Ok(Output::routes(echo))
}
