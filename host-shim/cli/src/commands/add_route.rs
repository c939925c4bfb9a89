//! `kata-network add-route`.

use patchbay_types::RouteSpec;
use patchbay_types::failure::Failure;

use crate::args::{Target, WithFile};
use crate::input::route;
use crate::output::{Output, Routed};
use patchbay_host::agent::Agent;
use patchbay_host::sandbox::{self, Lock};

pub(super) fn run(target: &Target, args: &WithFile) -> Result<Output, Failure> {
    add(target, &args.id, route::to_add(&args.file)?)
}

/// Adds the routes.
pub(super) fn add(
    target: &Target,
    id: &str,
    asked: Vec<(RouteSpec, Routed)>,
) -> Result<Output, Failure> {
    let sandbox = sandbox::find(&target.lookup(), id)?;
    let _lock = Lock::take(&sandbox.state)?;
    let (specs, echo): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    Agent::connect(&sandbox.agent)?.add_routes(&specs)?;
    Ok(Output::routes(echo))
}
