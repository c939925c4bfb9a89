//! The machine of a container.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_host::mirror::Attachment;
use patchbay_host::netns::Netns;
use patchbay_host::ops;
use patchbay_host::sandbox::{self, Lookup, Resident, Sandbox, SandboxId};
use patchbay_types::failure::{Failure, Kind};

use super::env::Target;
use super::error::{CniError, Code};

/// Time between two looks at a machine that is starting, which announces nothing.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Opens the network namespace of a target.
pub(super) fn open(target: &Target) -> Result<Netns, CniError> {
    let path: &Path = target.netns()?;
    let opened = Netns::open(path);
    opened
        .map_err(|failure| CniError::new(Code::InvalidEnvironment, failure.with_field("CNI_NETNS")))
}

/// Finds the machine of a container; waits until the deadline for one that is not known yet.
pub(super) fn find(
    lookup: &Lookup,
    id: &SandboxId,
    netns: &Netns,
    deadline: Instant,
) -> Result<Option<Sandbox>, Failure> {
    loop {
        match sandbox::of_container(lookup, id, netns)? {
            Resident::None => return Ok(None),
            Resident::Machine(sandbox) => return Ok(Some(*sandbox)),
            Resident::Unreachable(failure) if Instant::now() >= deadline => return Err(failure),
            Resident::Unreachable(_) => thread::sleep(RETRY_INTERVAL),
        }
    }
}

/// Waits until the agent of a machine answers.
pub(super) fn await_agent(sandbox: &Sandbox, deadline: Instant) -> Result<(), Failure> {
    loop {
        match ops::connect(sandbox).and_then(|agent| agent.greeting()) {
            Err(failure) if can_change(&failure) && Instant::now() < deadline => {
                thread::sleep(RETRY_INTERVAL);
            }
            greeting => return greeting.map(drop),
        }
    }
}

/// Returns whether a failure is one of a machine that is starting.
fn can_change(failure: &Failure) -> bool {
    matches!(
        failure.kind(),
        Kind::NotYet | Kind::Timeout | Kind::NotFound
    )
}

/// Finds the machine that has the card of an attachment, or that of its container. The network
/// namespace is not needed: the runtime may have forgotten it.
pub(super) fn with_attachment(
    lookup: &Lookup,
    id: &SandboxId,
    attachment: &Attachment,
) -> Result<Option<Sandbox>, Failure> {
    // Kata removes the files of a machine that ends, one after another.
    if let Ok(Some(sandbox)) = sandbox::find_whole(lookup, id) {
        return Ok(Some(sandbox));
    }
    for sandbox in sandbox::all(lookup)? {
        match ops::attachments(&sandbox) {
            Ok(attachments) if attachments.contains(attachment) => return Ok(Some(sandbox)),
            Ok(_) => {}
            // Most likely of another pod, whose DEL must not fail for ever.
            Err(failure) => tracing::warn!("{} is left out: {}", sandbox.id, failure.line()),
        }
    }
    Ok(None)
}
