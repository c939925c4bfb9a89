//! Phrases of `kata-runtime kata-network`, kept verbatim because scripts of operators match them.

use std::fmt::Display;

use patchbay_types::IfName;

/// The id matches neither a sandbox nor a container.
pub(crate) fn no_such_container(wanted: &impl Display) -> String {
    format!("no such container ID ({wanted})")
}

/// The prefix matches several sandboxes.
pub(crate) fn multiple_containers(wanted: &impl Display) -> String {
    format!("multiple containers found ({wanted})")
}

/// The name belongs to a card that differs from the request.
pub(crate) fn interface_exists(name: &IfName) -> String {
    format!("interface {name} is already exist")
}
