//! ADD, DEL, CHECK and GC.

use std::time::{Duration, Instant};

use patchbay_host::mirror::{self, Attachment, MirrorRequest};
use patchbay_host::ops::{self, Mirrored};
use patchbay_host::sandbox::{self, Lookup};
use patchbay_types::failure::{Failure, Kind};

use super::config::{MachinePolicy, Network, Options, ValidAttachment};
use super::env::Target;
use super::error::{CniError, Code};
use super::machine;

/// Minimum time for the card in the guest, after the wait for a machine that is starting.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// Gives the machine of a container a card for the container's interface.
pub(super) fn add(
    lookup: &Lookup,
    network: &Network<'_>,
    options: &Options,
    target: &Target,
) -> Result<(), CniError> {
    let deadline = Instant::now() + options.timeout;
    let netns = machine::open(target)?;
    let Some(sandbox) = machine::find(lookup, &target.container, &netns, deadline)? else {
        return match options.machine {
            MachinePolicy::Auto => Ok(()),
            MachinePolicy::Required => {
                let message = "no machine runs in the network namespace of the container";
                Err(Failure::new(Kind::NotFound, message).into())
            }
        };
    };
    let request = request(network, options, target)?;
    machine::await_agent(&sandbox, deadline)?;
    let wait = deadline.saturating_duration_since(Instant::now());
    match ops::attach(&sandbox, &request, wait.max(MIN_WAIT))? {
        Mirrored::Card(..) => {}
        Mirrored::Adopted(mac) => tracing::warn!(
            "the machine has a card of another program with the MAC address {mac} of {}: nothing is plugged",
            target.ifname
        ),
    }
    Ok(())
}

fn request(
    network: &Network<'_>,
    options: &Options,
    target: &Target,
) -> Result<MirrorRequest, CniError> {
    let name = mirror::default_name(&target.ifname);
    let name = name.map_err(|failure| CniError::new(Code::InvalidEnvironment, failure))?;
    Ok(MirrorRequest {
        queues: options.queues,
        routes: options.routes,
        default_route: options.default_route,
        attachment: Some(attachment(network, target)),
        ..MirrorRequest::new(target.ifname.clone(), name)
    })
}

fn attachment(network: &Network<'_>, target: &Target) -> Attachment {
    Attachment {
        network: network.name.clone(),
        container: target.container.to_string(),
        ifname: target.ifname.to_string(),
    }
}

/// Removes the card of an attachment. Without it there is nothing to do: the runtime repeats DEL, and
/// stops a machine before it.
pub(super) fn del(lookup: &Lookup, network: &Network<'_>, target: &Target) -> Result<(), CniError> {
    let attachment = attachment(network, target);
    if let Some(sandbox) = machine::with_attachment(lookup, &target.container, &attachment)? {
        ops::detach(&sandbox, &attachment)?;
    }
    // Those of machines that have ended, with their wires.
    ops::collect(&lookup.run_dir);
    Ok(())
}

/// Checks the card of an attachment.
pub(super) fn check(
    lookup: &Lookup,
    network: &Network<'_>,
    target: &Target,
) -> Result<(), CniError> {
    let netns = machine::open(target)?;
    let found = machine::find(lookup, &target.container, &netns, Instant::now())?;
    let attachment = attachment(network, target);
    Ok(found.map_or(Ok(()), |sandbox| ops::check_attached(&sandbox, &attachment))?)
}

/// Removes the cards of attachments that no longer exist, where the runtime lists those that do, and
/// the state of machines that have ended. Goes on after a failure, and returns the first one.
pub(super) fn gc(
    lookup: &Lookup,
    network: &Network<'_>,
    valid: Option<&[ValidAttachment]>,
) -> Result<(), CniError> {
    let mut first = Ok(());
    if let Some(valid) = valid {
        let is_valid = |found: &Attachment| {
            valid
                .iter()
                .any(|valid| (&valid.container, &valid.ifname) == (&found.container, &found.ifname))
        };
        for sandbox in sandbox::all(lookup)? {
            let attachments = ops::attachments(&sandbox).unwrap_or_else(|failure| {
                first = first.clone().and(Err(failure));
                Vec::new()
            });
            let left = attachments
                .iter()
                .filter(|found| found.network == network.name);
            for attachment in left.filter(|found| !is_valid(found)) {
                first = first.and(ops::detach(&sandbox, attachment).map(drop));
            }
        }
    }
    ops::collect(&lookup.run_dir);
    Ok(first?)
}
