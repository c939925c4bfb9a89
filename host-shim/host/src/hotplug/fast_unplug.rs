//! `fast-unplug` of root ports, a property in the QEMU of openEuler.

use super::Inventory;
use crate::qmp::command::QomGet;
use crate::qmp::{Error, Session};

/// Returns whether each port with hot-plug unplugs without the 5 s in which the controller waits for an operator.
/// QEMU itself has no such property.
pub(crate) fn is_set(qmp: &mut Session, inventory: &Inventory) -> Result<bool, Error> {
    let ports = inventory.devices.iter();
    let ports = ports.filter(|(_, device)| device.kind == "pcie-root-port");
    let queries: Vec<_> = ports
        .filter(|(_, device)| device.is_hotpluggable_bus)
        .map(|(path, _)| QomGet {
            path,
            property: "fast-unplug",
        })
        .collect();
    let replies = qmp.run_all(&queries)?;
    let is_fast = |reply: &Result<_, _>| reply.as_ref().is_ok_and(|value| *value == true);
    Ok(!replies.is_empty() && replies.iter().all(is_fast))
}
