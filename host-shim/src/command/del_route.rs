//! `kata-network del-route`.

use patchbay_protocols::failure::Failure;

use crate::agent::Agent;
use crate::cli::{Target, WithFile};
use crate::input::route;
use crate::output::Output;
use crate::sandbox::{self, Lock};

pub(super) fn run(target: &Target, args: &WithFile) -> Result<Output, Failure> {
    let asked = route::to_delete(&args.file)?;
    let sandbox = sandbox::find(target, &args.id)?;
    let _lock = Lock::take(&sandbox.state)?;
    let (patterns, echo): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    Agent::connect(&sandbox.agent)?.delete_routes(&patterns)?;
    Ok(Output::routes(echo))
}
