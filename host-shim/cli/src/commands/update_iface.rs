//! `kata-network update-iface`.

use patchbay_types::LinkChange;
use patchbay_types::failure::Failure;

use crate::args::{FileArgs, GlobalArgs, SandboxArg};
use crate::input;
use crate::output::{UpdatedJson, json_line};
use patchbay_host::agent::Agent;
use patchbay_host::sandbox::Lock;

/// Works on any interface of the guest, as the incumbent's does.
pub(super) fn run(global: &GlobalArgs, args: &FileArgs) -> Result<String, Failure> {
    let change = LinkChange::try_from(input::interface(&args.file)?)?;
    json_line(&set(global, &args.sandbox, &change)?)
}

/// Changes the interface.
pub(super) fn set(
    global: &GlobalArgs,
    sandbox: &SandboxArg,
    change: &LinkChange,
) -> Result<UpdatedJson, Failure> {
    let sandbox = global.find(sandbox)?;
    let _lock = Lock::take(&sandbox.state)?;
    Agent::connect(&sandbox.agent)?.update(change)?;
    Ok(UpdatedJson::from(change))
}
