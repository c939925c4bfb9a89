//! `kata-network del-iface`.

use patchbay_types::IfName;
use patchbay_types::failure::Failure;

use crate::args::{FileArgs, GlobalArgs};
use crate::input;
use crate::output::{Outcome, json_line};
use patchbay_host::hotplug::{self, Inventory};
use patchbay_host::qmp::Session;
use patchbay_host::sandbox::{BackendRecord, CardRecord, Journal, Lock, Phase, Sandbox};

/// Goes by `name` alone. A card that is not there is success; a failure repeats the request.
pub(super) fn run(global: &GlobalArgs, args: &FileArgs) -> Outcome {
    let read = input::interface(&args.file).and_then(|raw| {
        let name = raw.name()?;
        Ok((raw, name, global.find(&args.sandbox)?))
    });
    let (raw, name, sandbox) = match read {
        Ok(read) => read,
        Err(failure) => return Outcome::json_null_or(Err(failure)),
    };
    match remove(&sandbox, &name) {
        Ok(()) => Outcome::succeeded("null\n"),
        Err(failure) => match json_line(&raw.echo()) {
            Ok(echo) => Outcome::failed(echo, failure),
            Err(_) => Outcome::json_null_or(Err(failure)),
        },
    }
}

/// Makes the card absent.
pub(super) fn remove(sandbox: &Sandbox, name: &IfName) -> Result<(), Failure> {
    let _lock = Lock::take(&sandbox.state)?;
    let mut qmp = Session::connect(&sandbox.qmp)?;
    let journal = Journal::at(sandbox.state.path());
    hotplug::recover(sandbox, &mut qmp, &journal)?;
    let card = match journal.card(name)? {
        Some(card) => Some(card),
        None => plugged(&mut qmp, name)?,
    };
    match card {
        Some(card) => hotplug::clear(sandbox, &mut qmp, &journal, &card),
        None => Ok(()),
    }
}

/// A card of ours that the journal has lost: what QEMU knows of it is enough to remove it.
fn plugged(qmp: &mut Session, name: &IfName) -> Result<Option<CardRecord>, Failure> {
    let id = CardRecord::device_id(name);
    let nics = Inventory::read(qmp)?.nics();
    let prefix = CardRecord::netdev_prefix(name);
    Ok(nics
        .into_iter()
        .find(|nic| nic.id == id)
        .map(|nic| CardRecord {
            phase: Phase::Plugged,
            name: name.clone(),
            device: name.clone(),
            suffix: nic
                .netdev
                .and_then(|netdev| Some(netdev.strip_prefix(&prefix)?.to_owned()))
                .unwrap_or_default(),
            fds: Vec::new(),
            backend: BackendRecord::OwnTap,
        }))
}
