//! `kata-network list-ifaces`.

use patchbay_types::Interface;
use patchbay_types::failure::Failure;

use super::look;
use crate::args::{Plain, Target};
use crate::output::{Listed, Output};
use patchbay_host::hotplug::Inventory;
use patchbay_host::qmp::Session;
use patchbay_host::sandbox::{self, CardRecord};

/// The cards that we plugged, by QEMU's word, with what the guest's kernel says of them now.
pub(super) fn cards(target: &Target, id: &str) -> Result<Vec<Interface>, Failure> {
    let sandbox = sandbox::find(&target.lookup(), id)?;
    let mut qmp = Session::connect(&sandbox.qmp)?;
    let (ours, _, mut interfaces) = look(&sandbox, || {
        Inventory::read_nics(&mut qmp, CardRecord::DEVICE_PREFIX)
    })?;
    interfaces.retain(|interface| {
        interface.path.is_some() && ours.iter().any(|nic| nic.path == interface.path)
    });
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

pub(super) fn run(target: &Target, args: &Plain) -> Result<Output, Failure> {
    let cards = cards(target, &args.id)?;
    let listed: Vec<Listed> = cards.into_iter().map(Listed::from).collect();
    Ok(if listed.is_empty() {
        Output::Null
    } else {
        Output::Listed(listed)
    })
}
