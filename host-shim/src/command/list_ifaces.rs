//! `kata-network list-ifaces`.

use patchbay_protocols::failure::Failure;

use crate::agent::Agent;
use crate::cli::{Plain, Target};
use crate::hotplug::Inventory;
use crate::output::{Listed, Output};
use crate::qmp::Session;
use crate::sandbox::{self, Card};

/// The cards that we plugged, by QEMU's word, with what the guest's kernel says of them now.
pub(super) fn run(target: &Target, args: &Plain) -> Result<Output, Failure> {
    let sandbox = sandbox::find(target, &args.id)?;
    let ours = Inventory::read(&mut Session::connect(&sandbox.qmp)?)?.nics();
    let mut interfaces = Agent::connect(&sandbox.agent)?.interfaces()?;
    interfaces.retain(|interface| {
        let plugged = |nic: &crate::hotplug::Nic| {
            nic.id.starts_with(Card::DEVICE_PREFIX) && nic.path == interface.path
        };
        interface.path.is_some() && ours.iter().any(plugged)
    });
    interfaces.sort_by_key(|interface| interface.index);
    let listed: Vec<Listed> = interfaces.into_iter().map(Listed::from).collect();
    Ok(if listed.is_empty() {
        Output::Null
    } else {
        Output::Listed(listed)
    })
}
