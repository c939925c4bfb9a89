//! `kata-network del-route`.

use patchbay_types::RoutePattern;
use patchbay_types::failure::Failure;

use crate::args::{Target, WithFile};
use crate::input::route;
use crate::output::{Output, Routed};
use patchbay_host::agent::Agent;
use patchbay_host::sandbox::{self, Lock};

pub(super) fn run(target: &Target, args: &WithFile) -> Result<Output, Failure> {
    delete(target, &args.id, route::to_delete(&args.file)?)
}

/// Deletes the routes.
pub(super) fn delete(
    target: &Target,
    id: &str,
    asked: Vec<(RoutePattern, Routed)>,
) -> Result<Output, Failure> {
    let sandbox = sandbox::find(&target.lookup(), id)?;
    let _lock = Lock::take(&sandbox.state)?;
    let (patterns, echo): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    Agent::connect(&sandbox.agent)?.delete_routes(&patterns)?;
    Ok(Output::routes(echo))
}
