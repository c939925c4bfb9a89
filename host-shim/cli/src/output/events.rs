//! Events of `monitor`.

use std::fmt::{self, Write};
use std::time::SystemTime;

use patchbay_host::events::{Event, EventKind, PluggedCard};
use patchbay_types::ipvs::Change;
use patchbay_types::text::escape_controls;
use patchbay_types::{AddressState, Carrier, LinkState, NetEvent, NetObject};
use serde::Serialize;

use super::network::rule;
use crate::input::route::RouteText;

/// Event as an object of JSON. Keys without a value are absent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventRow {
    time: f64,
    sandbox: String,
    object: &'static str,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hw_addr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<RouteText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl EventRow {
    /// Describes an event.
    pub(crate) fn new(event: &Event) -> Self {
        let (object, change) = names(&event.kind);
        let row = Self {
            time: seconds(event.time),
            sandbox: event.sandbox.to_string(),
            object,
            change,
            name: None,
            device: None,
            hw_addr: None,
            index: None,
            mtu: None,
            up: None,
            carrier: None,
            address: None,
            state: None,
            route: None,
            rule: None,
            reason: None,
        };
        match &event.kind {
            EventKind::SandboxAppeared
            | EventKind::SandboxEnded
            | EventKind::AgentConnected
            | EventKind::Guest(NetEvent::Lost) => row,
            EventKind::AgentDisconnected(reason) => Self {
                reason: Some(reason.clone()),
                ..row
            },
            EventKind::CardPlugged(card) | EventKind::CardUnplugged(card) => Self {
                name: Some(card.name.to_string()),
                device: Some(card.device.to_string()),
                hw_addr: card.mac.map(|mac| mac.to_string()),
                ..row
            },
            EventKind::Guest(NetEvent::Changed(object) | NetEvent::Gone(object)) => {
                row.of_guest(object)
            }
            EventKind::Ipvs(change) => Self {
                rule: Some(rule(change)),
                ..row
            },
        }
    }

    fn of_guest(self, object: &NetObject) -> Self {
        match object {
            NetObject::Link(link) => Self {
                name: Some(link.name.to_string()),
                hw_addr: link.mac.map(|mac| mac.to_string()),
                index: Some(link.index),
                mtu: Some(link.mtu),
                up: Some(link.up),
                carrier: Some(link.carrier == Carrier::On),
                ..self
            },
            NetObject::Address(device, address, state) => Self {
                device: Some(device.to_string()),
                address: Some(address.to_string()),
                state: Some(state_name(*state)),
                ..self
            },
            NetObject::Route(route) => Self {
                route: Some(RouteText::from(route)),
                ..self
            },
        }
    }

    /// Returns the seconds since 1970.
    pub(crate) fn time(&self) -> f64 {
        self.time
    }
}

/// Returns the time with three digits after the point.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    (since.unwrap_or_default().as_secs_f64() * 1000.0).round() / 1000.0
}

/// Returns the names of the object and of its change.
fn names(kind: &EventKind) -> (&'static str, &'static str) {
    let of = |object: &NetObject| match object {
        NetObject::Link(_) => "link",
        NetObject::Address(..) => "address",
        NetObject::Route(_) => "route",
    };
    match kind {
        EventKind::SandboxAppeared => ("sandbox", "appeared"),
        EventKind::SandboxEnded => ("sandbox", "ended"),
        EventKind::AgentConnected => ("agent", "connected"),
        EventKind::AgentDisconnected(_) => ("agent", "disconnected"),
        EventKind::CardPlugged(_) => ("card", "plugged"),
        EventKind::CardUnplugged(_) => ("card", "unplugged"),
        EventKind::Guest(NetEvent::Changed(object)) => (of(object), "changed"),
        EventKind::Guest(NetEvent::Gone(object)) => (of(object), "gone"),
        EventKind::Guest(NetEvent::Lost) => ("events", "lost"),
        EventKind::Ipvs(change) => match change {
            Change::AddServer(..) | Change::EditServer(..) => ("server", "changed"),
            Change::DeleteServer(..) => ("server", "gone"),
            Change::AddService(_) | Change::EditService(_) => ("service", "changed"),
            _ => ("service", "gone"),
        },
    }
}

fn state_name(state: AddressState) -> &'static str {
    match state {
        AddressState::Usable => "usable",
        AddressState::Tentative => "tentative",
        AddressState::Duplicate => "duplicate",
    }
}

/// Returns the event as a line: sandbox, object, change and details.
pub(crate) fn line(event: &Event) -> String {
    let (object, change) = names(&event.kind);
    let mut line = format!("{} {object} {change}", event.sandbox);
    // Writing to a String can't fail.
    let _ = details(&event.kind, &mut line);
    escape_controls(&line) + "\n"
}

fn details(kind: &EventKind, out: &mut String) -> fmt::Result {
    match kind {
        EventKind::SandboxAppeared
        | EventKind::SandboxEnded
        | EventKind::AgentConnected
        | EventKind::Guest(NetEvent::Lost) => Ok(()),
        EventKind::AgentDisconnected(reason) => write!(out, ": {reason}"),
        EventKind::CardPlugged(card) | EventKind::CardUnplugged(card) => {
            let PluggedCard { name, mac, device } = card;
            write!(out, " {name} device {device}")?;
            mac.map_or(Ok(()), |mac| write!(out, " mac {mac}"))
        }
        EventKind::Guest(NetEvent::Changed(object)) => of_guest(object, Detail::All, out),
        EventKind::Guest(NetEvent::Gone(object)) => of_guest(object, Detail::Name, out),
        EventKind::Ipvs(change) => write!(out, " {}", rule(change)),
    }
}

/// Details of a guest's object in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    All,
    /// Those that identify it.
    Name,
}

fn of_guest(object: &NetObject, detail: Detail, out: &mut String) -> fmt::Result {
    match object {
        NetObject::Link(link) if detail == Detail::All => {
            let LinkState {
                index: _,
                name,
                mac,
                mtu,
                up,
                carrier,
            } = link;
            let up = if *up { "up" } else { "down" };
            let carrier = match carrier {
                Carrier::On => "on",
                Carrier::Off => "off",
            };
            write!(out, " {name} {up} carrier {carrier} mtu {mtu}")?;
            mac.map_or(Ok(()), |mac| write!(out, " mac {mac}"))
        }
        NetObject::Link(link) => write!(out, " {}", link.name),
        NetObject::Address(device, address, state) => {
            write!(out, " {address} dev {device}")?;
            match (detail, state) {
                (Detail::All, AddressState::Tentative | AddressState::Duplicate) => {
                    write!(out, " {}", state_name(*state))
                }
                _ => Ok(()),
            }
        }
        NetObject::Route(route) => write!(out, " {route}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use patchbay_types::{InterfaceAddress, LinkName, MacAddr};

    use super::*;
    use crate::output::json_line;

    fn event(kind: EventKind) -> Event {
        Event {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_764_234_901_123_456),
            sandbox: "vm1".parse().unwrap(),
            kind,
        }
    }

    fn link(name: &[u8]) -> NetObject {
        NetObject::Link(LinkState {
            index: 3,
            name: LinkName::try_from(name).unwrap(),
            mac: MacAddr::try_from([2, 0, 0, 0, 0, 1]).ok(),
            mtu: 1500,
            up: true,
            carrier: Carrier::Off,
        })
    }

    #[test]
    fn event_is_a_line_and_an_object() {
        let address = InterfaceAddress::new("fd00::2".parse().unwrap(), 64).unwrap();
        let address = NetObject::Address("eth1".parse().unwrap(), address, AddressState::Tentative);
        let card = PluggedCard {
            name: "eth1".parse().unwrap(),
            mac: None,
            device: "tap1".parse().unwrap(),
        };
        for (kind, line_of_it, members) in [
            (
                EventKind::SandboxEnded,
                "vm1 sandbox ended",
                r#""object":"sandbox","change":"ended""#,
            ),
            (
                EventKind::CardPlugged(card),
                "vm1 card plugged eth1 device tap1",
                r#""object":"card","change":"plugged","name":"eth1","device":"tap1""#,
            ),
            (
                EventKind::Guest(NetEvent::Changed(link(b"eth1"))),
                "vm1 link changed eth1 up carrier off mtu 1500 mac 02:00:00:00:00:01",
                r#""object":"link","change":"changed","name":"eth1","hwAddr":"02:00:00:00:00:01","index":3,"mtu":1500,"up":true,"carrier":false"#,
            ),
            (
                EventKind::Guest(NetEvent::Changed(address.clone())),
                "vm1 address changed fd00::2/64 dev eth1 tentative",
                r#""object":"address","change":"changed","device":"eth1","address":"fd00::2/64","state":"tentative""#,
            ),
            (
                EventKind::Guest(NetEvent::Gone(address)),
                "vm1 address gone fd00::2/64 dev eth1",
                r#""object":"address","change":"gone","device":"eth1","address":"fd00::2/64","state":"tentative""#,
            ),
            (
                EventKind::Guest(NetEvent::Lost),
                "vm1 events lost",
                r#""object":"events","change":"lost""#,
            ),
        ] {
            let event = event(kind);
            assert_eq!(line(&event), format!("{line_of_it}\n"));
            let object = json_line(&EventRow::new(&event)).unwrap();
            let start = r#"{"time":1764234901.123,"sandbox":"vm1","#;
            assert_eq!(object, format!("{start}{members}}}\n"));
        }
    }

    #[test]
    fn event_of_a_hostile_name_is_escaped() {
        let event = event(EventKind::Guest(NetEvent::Gone(link(b"a\x1b[2J\xff"))));
        let shown = line(&event);
        assert_eq!(shown, "vm1 link gone a\\u{1b}[2J\\xff\n");
        let object = json_line(&EventRow::new(&event)).unwrap();
        assert!(object.contains(r#""name":"a\u001b[2J\\xff""#), "{object}");
    }
}
