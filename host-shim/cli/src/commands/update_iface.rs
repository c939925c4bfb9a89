//! `kata-network update-iface`.

use patchbay_types::LinkChange;
use patchbay_types::failure::Failure;

use crate::args::{Target, WithFile};
use crate::input;
use crate::output::Updated;
use patchbay_host::agent::Agent;
use patchbay_host::sandbox::{self, Lock};

/// Works on any interface of the guest, as the incumbent's does.
pub(super) fn run(target: &Target, args: &WithFile) -> Result<Updated, Failure> {
    let change = LinkChange::try_from(input::interface(&args.file)?)?;
    set(target, &args.id, &change)
}

/// Changes the interface.
pub(super) fn set(target: &Target, id: &str, change: &LinkChange) -> Result<Updated, Failure> {
    let sandbox = sandbox::find(&target.lookup(), id)?;
    let _lock = Lock::take(&sandbox.state)?;
    Agent::connect(&sandbox.agent)?.update(change)?;
    Ok(Updated::from(change))
}
