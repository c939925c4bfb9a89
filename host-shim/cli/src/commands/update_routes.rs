//! `kata-network update-routes`.

use patchbay_types::failure::Failure;

use crate::args::{Target, WithFile};
use crate::input::route;
use crate::output::Output;
use patchbay_host::agent::Agent;
use patchbay_host::sandbox::{self, Lock};

/// An empty array removes every route that is not the kernel's; `null` asks for nothing.
pub(super) fn run(target: &Target, args: &WithFile) -> Result<Output, Failure> {
    let asked = route::wanted(&args.file)?;
    let sandbox = sandbox::find(&target.lookup(), &args.id)?;
    let _lock = Lock::take(&sandbox.state)?;
    let agent = Agent::connect(&sandbox.agent)?;
    let Some(asked) = asked else {
        return Ok(Output::Null);
    };
    let (specs, echo): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    agent.replace_routes(&specs)?;
    Ok(Output::routes(echo))
}
