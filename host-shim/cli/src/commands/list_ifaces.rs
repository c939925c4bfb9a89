//! `kata-network list-ifaces`.

use patchbay_types::Interface;
use patchbay_types::failure::Failure;

use super::look;
use crate::args::{GlobalArgs, SandboxArg};
use crate::output::{ListedJson, json_line_or_null};
use patchbay_host::hotplug::Inventory;
use patchbay_host::qmp::Session;
use patchbay_host::sandbox::CardRecord;

/// The cards that we plugged, by QEMU's word, with what the guest's kernel says of them now.
pub(super) fn cards(global: &GlobalArgs, sandbox: &SandboxArg) -> Result<Vec<Interface>, Failure> {
    let sandbox = global.find(sandbox)?;
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

pub(super) fn run(global: &GlobalArgs, sandbox: &SandboxArg) -> Result<String, Failure> {
    let cards = cards(global, sandbox)?.into_iter();
    json_line_or_null(&cards.map(ListedJson::from).collect::<Vec<_>>())
}
