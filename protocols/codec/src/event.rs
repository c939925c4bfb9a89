//! Events of a guest's network. A route in an event has the highest layout of routes of this build, so a new
//! layout of routes is also one of events.

use super::reader::{optional, put_bytes, put_ip, put_number, put_optional, strange};
use super::{Packed, Reader};
use patchbay_types::{
    AddressState, Carrier, FieldError, InterfaceAddress, LinkName, LinkState, MacAddr, NetEvent,
    NetObject, Route,
};

/// Tags of an event; that of its object follows the last two.
const LOST: u8 = 0;
const CHANGED: u8 = 1;
const GONE: u8 = 2;

/// Tags of an object.
const LINK: u8 = 1;
const ADDRESS: u8 = 2;
const ROUTE: u8 = 3;

/// Bits of a link's flags.
const UP: u8 = 1;
const CARRIER: u8 = 1 << 1;

impl Packed for NetEvent {
    fn pack(&self, out: &mut Vec<u8>) {
        let (tag, object) = match self {
            Self::Lost => return out.push(LOST),
            Self::Changed(object) => (CHANGED, object),
            Self::Gone(object) => (GONE, object),
        };
        out.push(tag);
        match object {
            NetObject::Link(link) => {
                out.push(LINK);
                link.pack(out);
            }
            NetObject::Address(device, address, state) => {
                out.push(ADDRESS);
                put_bytes(out, device.as_bytes());
                put_ip(out, address.ip());
                out.push(address.prefix());
                out.push(match state {
                    AddressState::Usable => 0,
                    AddressState::Tentative => 1,
                    AddressState::Duplicate => 2,
                });
            }
            NetObject::Route(route) => {
                out.push(ROUTE);
                route.pack(out);
            }
        }
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        match reader.byte("event")? {
            LOST => Ok(Self::Lost),
            CHANGED => object(reader).map(Self::Changed),
            GONE => object(reader).map(Self::Gone),
            tag => Err(strange(tag, "an event has a tag from 0 to 2", "event")),
        }
    }
}

fn object(reader: &mut Reader<'_>) -> Result<NetObject, FieldError> {
    match reader.byte("object")? {
        LINK => LinkState::unpack(reader).map(NetObject::Link),
        ADDRESS => {
            let device = name(reader, "device")?;
            let ip = reader.ip("address")?;
            let address = InterfaceAddress::new(ip, reader.byte("address")?);
            let address = address.map_err(|invalid| invalid.in_field("address"))?;
            let state = match reader.byte("state")? {
                0 => AddressState::Usable,
                1 => AddressState::Tentative,
                2 => AddressState::Duplicate,
                tag => return Err(strange(tag, "a state has a number from 0 to 2", "state")),
            };
            Ok(NetObject::Address(device, address, state))
        }
        ROUTE => Route::unpack(reader).map(NetObject::Route),
        tag => Err(strange(tag, "an object has a tag from 1 to 3", "object")),
    }
}

fn name(reader: &mut Reader<'_>, field: &str) -> Result<LinkName, FieldError> {
    let name = LinkName::try_from(reader.short_bytes(field)?);
    name.map_err(|invalid| invalid.in_field(field))
}

impl Packed for LinkState {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self {
            index,
            name,
            mac,
            mtu,
            up,
            carrier,
        } = self;
        put_number(out, *index);
        put_bytes(out, name.as_bytes());
        put_optional(out, *mac, |out, mac| out.extend_from_slice(&mac.octets()));
        put_number(out, *mtu);
        let up = if *up { UP } else { 0 };
        let carrier = match carrier {
            Carrier::On => CARRIER,
            Carrier::Off => 0,
        };
        out.push(up | carrier);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let mut link = Self {
            index: reader.u32("index")?,
            name: name(reader, "name")?,
            mac: optional(reader, "mac", |reader, field| {
                let octets = MacAddr::try_from(reader.bytes::<6>(field)?);
                octets.map_err(|invalid| invalid.in_field(field))
            })?,
            mtu: reader.u32("mtu")?,
            up: false,
            carrier: Carrier::Off,
        };
        let flags = reader.byte("flags")?;
        if flags & !(UP | CARRIER) != 0 {
            return Err(strange(flags, "a link has two flags", "flags"));
        }
        link.up = flags & UP != 0;
        if flags & CARRIER != 0 {
            link.carrier = Carrier::On;
        }
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use patchbay_types::{RouteRequest, RouteSpec};

    use super::*;
    use crate::{pack, unpack};

    fn link() -> LinkState {
        LinkState {
            index: 300,
            name: "eth1".parse().unwrap(),
            mac: MacAddr::try_from([2, 0, 0, 0, 0, 1]).ok(),
            mtu: 1500,
            up: true,
            carrier: Carrier::Off,
        }
    }

    fn events() -> Vec<NetEvent> {
        let address = |text: &str, prefix, state| {
            let address = InterfaceAddress::new(text.parse().unwrap(), prefix).unwrap();
            NetObject::Address("eth1".parse().unwrap(), address, state)
        };
        let route: Route = {
            let dest = "10.9.0.0/16".parse().unwrap();
            let request = RouteRequest::open(dest, "eth1".parse().unwrap());
            let spec = RouteSpec::new(request).unwrap();
            unpack(&pack(&spec)).unwrap()
        };
        let without_mac = LinkState {
            mac: None,
            up: false,
            carrier: Carrier::On,
            ..link()
        };
        vec![
            NetEvent::Lost,
            NetEvent::Changed(NetObject::Link(link())),
            NetEvent::Gone(NetObject::Link(without_mac)),
            NetEvent::Changed(address("10.0.0.2", 24, AddressState::Usable)),
            NetEvent::Changed(address("fd00::2", 64, AddressState::Tentative)),
            NetEvent::Gone(address("fd00::2", 64, AddressState::Duplicate)),
            NetEvent::Gone(NetObject::Route(route)),
        ]
    }

    #[test]
    fn events_round_trip_and_cut_ones_fail() {
        for event in events() {
            let bytes = pack(&event);
            assert_eq!(unpack::<NetEvent>(&bytes).unwrap(), event);
            for end in 0..bytes.len() {
                let error = unpack::<NetEvent>(&bytes[..end]).unwrap_err();
                assert!(error.to_string().contains("ends within it"), "{error}");
            }
        }
    }

    #[test]
    fn event_invalid_names_its_field() {
        let whole = pack(&NetEvent::Changed(NetObject::Link(link())));
        for (at, byte, field) in [
            (0, 3, "event"),
            (1, 4, "object"),
            (5, b'/', "name"),
            (9, 2, "mac"),
            (10, 1, "mac"),
            (18, 4, "flags"),
        ] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            assert_eq!(
                unpack::<NetEvent>(&bytes).unwrap_err().field(),
                field,
                "{at}"
            );
        }
        for (bytes, field) in [
            (&[1, 2, 2, b'e', b'1', 4, 10, 0, 0, 2, 33][..], "address"),
            (&[1, 2, 2, b'e', b'1', 4, 10, 0, 0, 2, 24, 3], "state"),
            (&[2, 2, 0], "device"),
        ] {
            assert_eq!(unpack::<NetEvent>(bytes).unwrap_err().field(), field);
        }
    }
}
