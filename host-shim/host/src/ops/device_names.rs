//! Requests that name a device by the name under which its card was plugged.

use std::collections::{HashMap, HashSet};

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AddressDetail, Interface, LinkName, Neighbor, NeighborPattern, RoutePattern, RouteSpec,
};

use super::attachments::recorded;
use super::change_guest;
use crate::agent::GuestAgent;
use crate::sandbox::{CardRecord, Journal, Sandbox};

/// Request for the guest that can name a device.
pub trait OnDevice: Clone {
    /// Returns the device.
    fn device_mut(&mut self) -> Option<&mut LinkName>;
}

impl OnDevice for RouteSpec {
    fn device_mut(&mut self) -> Option<&mut LinkName> {
        Some(self.device_mut())
    }
}

impl OnDevice for RoutePattern {
    fn device_mut(&mut self) -> Option<&mut LinkName> {
        self.device.as_mut()
    }
}

impl OnDevice for Neighbor {
    fn device_mut(&mut self) -> Option<&mut LinkName> {
        Some(&mut self.device)
    }
}

impl OnDevice for NeighborPattern {
    fn device_mut(&mut self) -> Option<&mut LinkName> {
        self.device.as_mut()
    }
}

/// Sends requests while it holds the lock. Devices have their names in the guest, as lists show them;
/// if the agent doesn't find one, names under which cards were plugged are replaced by these.
///
/// # Errors
/// As for [`change_guest`], and the failure of `send`.
pub fn change_on_devices<T: OnDevice>(
    sandbox: &Sandbox,
    requests: &[T],
    send: impl Fn(&dyn GuestAgent, &[T]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    change_guest(sandbox, |agent| {
        check_unambiguous(sandbox, agent, requests)?;
        match send(agent, requests) {
            Err(failure) if failure.kind() == Kind::NotFound => {
                match with_present_names(requests, &renamed_cards(sandbox, agent)?) {
                    Some(renamed) => send(agent, &renamed),
                    None => Err(failure),
                }
            }
            result => result,
        }
    })
}

/// Checks that no device has the name of one interface, and the plugged name of another one that was renamed
/// (`nic set --rename`). The guest's kernel gives such a name to another card when the guest restarts.
///
/// # Errors
/// [`Kind::Invalid`]; failures of the agent.
fn check_unambiguous<T: OnDevice>(
    sandbox: &Sandbox,
    agent: &dyn GuestAgent,
    requests: &[T],
) -> Result<(), Failure> {
    let mut requests = requests.to_vec();
    let devices: HashSet<&LinkName> = requests
        .iter_mut()
        .filter_map(T::device_mut)
        .map(|device| &*device)
        .collect();
    let is_renamed = |record: &CardRecord| {
        let link = record.link.as_ref();
        let has_other = link.is_some_and(|link| link.spec.parts().name != record.name);
        has_other && devices.contains(&LinkName::from(&record.name))
    };
    // A record that can't be read must not prevent a change of another card.
    let mut renamed = recorded(sandbox).unwrap_or_default();
    renamed.retain(is_renamed);
    if renamed.is_empty() {
        return Ok(());
    }
    let interfaces = agent.interfaces(AddressDetail::Omitted)?;
    for record in &renamed {
        let is_card =
            |interface: &&Interface| interface.path.is_some() && interface.path == record.path;
        let card = interfaces.iter().find(is_card);
        let others = interfaces.iter().filter(|interface| !is_card(interface));
        let mut named = others.filter(|interface| interface.name == record.name);
        if let Some(card) = card
            && named.next().is_some()
        {
            let (name, now) = (&record.name, &card.name);
            let message = format!(
                "device '{name}' is ambiguous: it fits an interface of the guest, and the card plugged as {name}, now '{now}'"
            );
            return Err(Failure::new(Kind::Invalid, message).with_field("device"));
        }
    }
    Ok(())
}

/// Returns the requests with present names; `None` if they have no other ones.
fn with_present_names<T: OnDevice>(
    requests: &[T],
    names: &HashMap<LinkName, LinkName>,
) -> Option<Vec<T>> {
    let mut renamed = requests.to_vec();
    let mut is_renamed = false;
    for device in renamed.iter_mut().filter_map(T::device_mut) {
        if let Some(name) = names.get(device) {
            device.clone_from(name);
            is_renamed = true;
        }
    }
    is_renamed.then_some(renamed)
}

/// Returns the present names of cards by the plugged ones, unless an interface has the latter.
fn renamed_cards(
    sandbox: &Sandbox,
    agent: &dyn GuestAgent,
) -> Result<HashMap<LinkName, LinkName>, Failure> {
    let Ok(state) = sandbox.state() else {
        return Ok(HashMap::new());
    };
    let records = Journal::at(state.path()).cards()?;
    let interfaces = agent.interfaces(AddressDetail::Omitted)?;
    Ok(renamed(&interfaces, &records).into_iter().collect())
}

/// Returns the plugged and the present names of cards that the guest has renamed.
pub(crate) fn renamed(
    interfaces: &[Interface],
    records: &[CardRecord],
) -> Vec<(LinkName, LinkName)> {
    let renamed = records.iter().filter_map(|record| {
        let is_at = |path: &Option<_>| path.is_some() && *path == record.path;
        let interface = interfaces.iter().find(|interface| is_at(&interface.path))?;
        let is_free = interfaces.iter().all(|other| other.name != record.name);
        is_free.then(|| ((&record.name).into(), interface.name.clone()))
    });
    renamed.collect()
}
