//! `kata-network add-iface`.

use std::collections::HashSet;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{Interface, PciPath, QueuePairs};

use super::look;
use crate::args::{FileArgs, GlobalArgs, SandboxArg};
use crate::input;
use crate::output::{AddedJson, json_line};
use patchbay_host::card::{Backend, CardRequest};
use patchbay_host::hotplug::{self, Bench, Inventory};
use patchbay_host::qmp::Session;
use patchbay_host::sandbox::{CardRecord, Journal, Lock};

pub(super) fn run(global: &GlobalArgs, args: &FileArgs) -> Result<String, Failure> {
    let request = CardRequest::try_from(input::interface(&args.file)?)?;
    json_line(&plug(global, &args.sandbox, &request)?)
}

/// Plugs the card, if it isn't there already.
pub(super) fn plug(
    global: &GlobalArgs,
    sandbox: &SandboxArg,
    request: &CardRequest,
) -> Result<AddedJson, Failure> {
    let sandbox = global.find(sandbox)?;
    let _lock = Lock::take(&sandbox.state)?;
    let mut qmp = Session::connect(&sandbox.qmp)?;
    let journal = Journal::at(sandbox.state.path());
    hotplug::recover(&sandbox, &mut qmp, &journal)?;
    let (inventory, agent, interfaces) = look(&sandbox, || Inventory::read(&mut qmp))?;
    if let Some(path) = same_again(&inventory, &journal, &interfaces, request)? {
        return Ok(AddedJson::new(request, &path));
    }
    let parts = request.link.parts();
    if interfaces
        .iter()
        .any(|interface| interface.name == parts.name.as_str())
    {
        let sentence = format!(
            "name '{}' is taken by another interface of the guest",
            parts.name
        );
        return Err(Failure::new(Kind::Exists, sentence).with_field("name"));
    }
    inventory.refuse_duplicate(parts.mac)?;
    let mut bench = Bench {
        sandbox: &sandbox,
        qmp: &mut qmp,
        agent: &agent,
        journal: &journal,
        wait: global.timeout,
    };
    let path = hotplug::attach(&mut bench, &inventory, request)?;
    Ok(AddedJson::new(request, &path))
}

/// Where the card sits when this very request was carried out before.
///
/// # Errors
/// A card of that name that differs from the request, and in what.
fn same_again(
    inventory: &Inventory,
    journal: &Journal,
    interfaces: &[Interface],
    request: &CardRequest,
) -> Result<Option<PciPath>, Failure> {
    let parts = request.link.parts();
    let id = CardRecord::device_id(&parts.name);
    let Some(nic) = inventory.nics().into_iter().find(|nic| nic.id == id) else {
        return Ok(None);
    };
    let different = |what: &str| {
        let sentence = format!(
            "interface {} is already exist, with another {what}",
            parts.name
        );
        Failure::new(Kind::Exists, sentence).with_field("name")
    };
    if let Some(card) = journal.card(&parts.name)? {
        if card.device != request.device {
            return Err(different("device"));
        }
        let socket = match &request.backend {
            Backend::Tap => None,
            Backend::VhostUser(socket, listener) => Some((socket.as_path(), *listener)),
        };
        if card.socket() != socket {
            return Err(different("vhostUserSocket or mode"));
        }
    }
    if nic.mac != parts.mac {
        return Err(different("hwAddr"));
    }
    let inside = interfaces
        .iter()
        .find(|interface| interface.path == nic.path);
    let Some(inside) = inside.filter(|interface| interface.name == parts.name.as_str()) else {
        return Err(different("name in the guest"));
    };
    if !inside.up {
        return Err(different("state: the guest has set it down"));
    }
    if inside.arp != parts.arp {
        return Err(different("rawFlags"));
    }
    if inside.mtu != u32::from(parts.mtu.get()) {
        return Err(different("mtu"));
    }
    if inside.queues.unwrap_or(QueuePairs::ONE) != parts.queues.unwrap_or(QueuePairs::ONE) {
        return Err(different("number of queues"));
    }
    let wanted: HashSet<_> = parts.addresses.iter().collect();
    if inside.addresses.iter().collect::<HashSet<_>>() != wanted {
        return Err(different("address"));
    }
    Ok(nic.path)
}
