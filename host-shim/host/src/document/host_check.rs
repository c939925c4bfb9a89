//! Checks of the host's links before the first step of a plan: a card must not be unplugged for one that can't
//! be plugged.

use patchbay_types::failure::Failure;

use super::{Plan, Step, Wanted};
use crate::card::{Backend, PlugRequest};
use crate::hotplug;
use crate::mirror;
use crate::netns::Netns;
use crate::sandbox::Sandbox;

/// Checks that the links and bridges of new cards exist, and are of a kind that a card can have.
///
/// # Errors
/// The failure of the plug; its field is the place in the document.
pub fn check_host(sandbox: &Sandbox, wanted: &Wanted, plan: &Plan) -> Result<(), Failure> {
    let interfaces = wanted.interfaces.as_deref().unwrap_or_default();
    for step in plan.steps() {
        let Step::Plug(request) = step else {
            continue;
        };
        let named = interfaces
            .iter()
            .position(|other| other.name() == request.name());
        check(sandbox, request).map_err(|failure| match named {
            Some(index) => failure.with_field(format!("interfaces[{index}]")),
            None => failure,
        })?;
    }
    Ok(())
}

fn check(sandbox: &Sandbox, request: &PlugRequest) -> Result<(), Failure> {
    match request {
        PlugRequest::Mirror(request) => {
            let namespace = Netns::open_or_current(sandbox.netns.as_deref())?;
            mirror::read_silently(&namespace, request).map(drop)
        }
        PlugRequest::Card(card) => match &card.backend {
            Backend::Bridge(port) => hotplug::netns_of_bridge(sandbox, port).map(drop),
            Backend::Tap | Backend::Link(_) | Backend::VhostUser(..) => Ok(()),
        },
    }
}
