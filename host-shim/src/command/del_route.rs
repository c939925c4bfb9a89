//! `kata-network del-route`.

use patchbay_protocols::failure::Failure;
use patchbay_protocols::model::RoutePattern;

use crate::agent::Agent;
use crate::cli::{Target, WithFile};
use crate::input::route;
use crate::output::{Output, Routed};
use crate::sandbox::{self, Lock};

pub(super) fn run(target: &Target, args: &WithFile) -> Result<Output, Failure> {
    delete(target, &args.id, route::to_delete(&args.file)?)
}

/// Deletes the routes.
pub(super) fn delete(
    target: &Target,
    id: &str,
    asked: Vec<(RoutePattern, Routed)>,
) -> Result<Output, Failure> {
    let sandbox = sandbox::find(target, id)?;
    let _lock = Lock::take(&sandbox.state)?;
    let (patterns, echo): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    Agent::connect(&sandbox.agent)?.delete_routes(&patterns)?;
    Ok(Output::routes(echo))
}
