//! Interfaces by Kata's agent.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AdminState, Arp, DadPolicy, Interface, InterfaceAddress, LinkChange, LinkFields, LinkFlags,
    LinkSpec, MacAddr, PciPath, QueuePairs,
};
use patchbay_wire::proto::kata as wire;
use protobuf::MessageField;

use super::super::{Effect, GuestWait, MARGIN, REPLY_TIMEOUT};
use super::{KataAgent, Updates, contradiction, convert};

/// First pause before another attempt to configure a card that the guest's kernel hasn't detected yet; each is
/// twice as long as that before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause. An agent since 3.15 waits for the card by itself.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Names the first part of a configuration that Kata's agent can't set or can't report.
pub(super) fn unsupported(spec: &LinkSpec) -> Option<&'static str> {
    let LinkFields {
        addresses,
        queues,
        arp,
        ..
    } = spec.parts();
    let is_link_local = |address: &InterfaceAddress| convert::is_link_local(address.ip());
    match () {
        () if queues.is_some_and(|queues| queues != QueuePairs::ONE) => Some("queues"),
        () if *arp == Arp::Off => Some("rawFlags"),
        () if spec.state() == AdminState::Down => Some("setting interfaces down"),
        () if spec.promisc().is_some() => Some("promiscuous mode"),
        () if !spec.addresses_without_prefix_route().is_empty() => Some("noPrefixRoute"),
        () if addresses.iter().any(is_link_local) => Some("link-local addresses"),
        () if spec.duplicates() == DadPolicy::Detect => Some("duplicate address detection"),
        () => None,
    }
}

impl KataAgent {
    pub(super) fn list_interfaces(&self) -> Result<Vec<Interface>, Failure> {
        let request = wire::ListInterfacesRequest::default();
        let call = |context| self.client.list_interfaces(context, &request);
        let reply = self.call(Effect::Reads, REPLY_TIMEOUT, call)?;
        let mut interfaces = convert::interfaces(&reply)?;
        for interface in &mut interfaces {
            let card = self
                .cards
                .iter()
                .find(|(mac, _)| Some(*mac) == interface.mac);
            interface.path = card.map(|(_, path)| path.clone());
        }
        Ok(interfaces)
    }

    /// Configures a card, again and again until the guest's kernel has it.
    pub(super) fn configure_card(
        &self,
        path: &PciPath,
        spec: &LinkSpec,
        wait: GuestWait,
    ) -> Result<Interface, Failure> {
        let LinkFields {
            name,
            mac,
            mtu,
            addresses,
            ..
        } = spec.parts();
        let wanted = Wanted {
            name: name.to_string(),
            mac: *mac,
            mtu: u32::from(mtu.get()),
            addresses,
        };
        let deadline = Instant::now() + wait.limit;
        let mut pause = FIRST_PAUSE;
        // The card can appear between an attempt and the list after it.
        let mut was_present = false;
        loop {
            let failure = match self.send(&wanted, Some(path), wait.effect) {
                Ok(()) => return self.check(&wanted),
                Err(failure) => failure,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if was_present || left.is_zero() {
                return Err(failure);
            }
            let interfaces = self.list_interfaces()?;
            was_present = interfaces.iter().any(|found| found.mac == Some(*mac));
            if !was_present {
                thread::sleep(pause.min(left));
                pause = LONGEST_PAUSE.min(pause * 2);
            }
        }
    }

    /// Changes an interface. A failure leaves it as it was.
    pub(super) fn update_interface(&self, change: &LinkChange) -> Result<Interface, Failure> {
        let interfaces = self.list_interfaces()?;
        let before = interfaces.iter().find(|found| found.name == *change.name());
        let Some(before) = before else {
            let message = format!("no interface '{}' in the guest", change.name());
            return Err(Failure::new(Kind::NotFound, message).with_field("name"));
        };
        let Some(mac) = before.mac else {
            return Err(self.lacks("changes of interfaces without a MAC address"));
        };
        let old: Vec<_> = before
            .addresses
            .iter()
            .map(|listed| listed.address)
            .collect();
        let addresses = change.addresses().unwrap_or(&old);
        self.check_change(change, &interfaces, &old, addresses)?;
        let name = before.name.to_string();
        let as_it_was = Wanted {
            name: name.clone(),
            mac,
            mtu: before.mtu,
            addresses: &old,
        };
        let wanted = Wanted {
            name,
            mac,
            mtu: change.mtu().map_or(before.mtu, |mtu| u32::from(mtu.get())),
            addresses,
        };
        let changed = self
            .send(&wanted, None, Effect::Changes)
            .and_then(|()| self.check(&wanted));
        changed.map_err(|failure| {
            let undone = self
                .send(&as_it_was, None, Effect::Marked)
                .and_then(|()| self.check(&as_it_was));
            match undone {
                Ok(_) => failure,
                Err(undo) => failure.with_cause(format!("and it could not be undone: {undo}")),
            }
        })
    }

    /// Refuses a change that the agent can't carry out, or that would take routes away.
    fn check_change(
        &self,
        change: &LinkChange,
        interfaces: &[Interface],
        old: &[InterfaceAddress],
        new: &[InterfaceAddress],
    ) -> Result<(), Failure> {
        if change.flags() != LinkFlags::default() {
            return Err(self.lacks("changes of an interface's flags"));
        }
        if change.rename().is_some() {
            return Err(self.lacks("new names of interfaces"));
        }
        let new: HashSet<_> = new.iter().collect();
        if self.version.updates == Updates::Add && old.iter().any(|old| !new.contains(old)) {
            return Err(self.lacks("the removal of addresses"));
        }
        if change.duplicates() == DadPolicy::Detect {
            return Err(self.lacks("duplicate address detection"));
        }
        let name = change.name().to_string();
        let routes = self.other_routes(interfaces)?;
        if routes.iter().any(|route| route.device() == name) {
            let missing = format!("changes of an interface that keep its routes ({name} has some)");
            return Err(self.lacks(&missing));
        }
        Ok(())
    }

    fn send(
        &self,
        wanted: &Wanted<'_>,
        path: Option<&PciPath>,
        effect: Effect,
    ) -> Result<(), Failure> {
        let addresses = wanted.addresses.iter().copied();
        let interface = wire::Interface {
            name: wanted.name.clone(),
            hwAddr: wanted.mac.to_string(),
            mtu: wanted.mtu.into(),
            IPAddresses: addresses.map(convert::address).collect(),
            devicePath: path.map(ToString::to_string).unwrap_or_default(),
            ..wire::Interface::default()
        };
        let request = wire::UpdateInterfaceRequest {
            interface: MessageField::some(interface),
            ..wire::UpdateInterfaceRequest::default()
        };
        let call = |context| self.client.update_interface(context, &request);
        self.call(effect, REPLY_TIMEOUT + MARGIN, call).map(drop)
    }

    /// Compares an interface with what was sent: the reply only repeats the request.
    fn check(&self, wanted: &Wanted<'_>) -> Result<Interface, Failure> {
        let interfaces = self.list_interfaces()?;
        let named = interfaces
            .into_iter()
            .find(|found| found.mac == Some(wanted.mac) && found.name.to_string() == wanted.name);
        let Some(interface) = named else {
            let (mac, name) = (wanted.mac, &wanted.name);
            return Err(contradiction(format!(
                "the guest has no interface '{name}' with the MAC address {mac}"
            )));
        };
        let present: HashSet<_> = interface
            .addresses
            .iter()
            .map(|found| found.address)
            .collect();
        let missing = wanted
            .addresses
            .iter()
            .find(|address| !present.contains(address));
        let name = &wanted.name;
        if let Some(address) = missing {
            return Err(contradiction(format!(
                "the interface '{name}' lacks the address {address}"
            )));
        }
        if interface.mtu != wanted.mtu {
            let (found, mtu) = (interface.mtu, wanted.mtu);
            return Err(contradiction(format!(
                "the interface '{name}' has the mtu {found}, not {mtu}"
            )));
        }
        Ok(interface)
    }
}

/// State of an interface, as a request has it.
struct Wanted<'a> {
    name: String,
    mac: MacAddr,
    mtu: u32,
    addresses: &'a [InterfaceAddress],
}
