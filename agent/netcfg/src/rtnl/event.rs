//! Notifications of links, addresses and routes.

use std::collections::HashMap;

use libc::{
    AF_UNSPEC, RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE,
};
use patchbay_netlink::{Error, Rtnetlink, Socket};
use patchbay_types::{AddressState, AdminState, Carrier, LinkName, LinkState, NetEvent, NetObject};

use super::address::{DadState, LinkAddress};
use super::link::Link;
use super::route::RouteMsg;

/// `RTMGRP_*` of links, addresses and routes. The tables of neighbors change with every conversation.
const GROUPS: u32 = 0x001 | 0x010 | 0x100 | 0x040 | 0x400;

/// Opens a socket for [`read`].
pub fn subscribe() -> Result<Socket<Rtnetlink>, Error> {
    Socket::subscribe(GROUPS)
}

/// Names of links by their indexes.
pub type LinkNames = HashMap<u32, LinkName>;

fn state(link: Link) -> LinkState {
    LinkState {
        index: link.index,
        name: link.name,
        mac: link.mac,
        mtu: link.mtu,
        up: link.state == AdminState::Up,
        carrier: if link.carrier {
            Carrier::On
        } else {
            Carrier::Off
        },
    }
}

/// Returns the event of a message. `None` for other messages, and for addresses and routes that the shared types
/// can't express, or of a link that is unknown.
pub fn read(names: &mut LinkNames, number: u16, payload: &[u8]) -> Result<Option<NetEvent>, Error> {
    match number {
        RTM_NEWLINK | RTM_DELLINK => read_link(names, number, payload),
        RTM_NEWADDR | RTM_DELADDR => {
            let address = LinkAddress::read(payload)?;
            let object = address.and_then(|found| {
                let device = names.get(&found.index)?.clone();
                let state = match found.dad {
                    DadState::Usable => AddressState::Usable,
                    DadState::Tentative => AddressState::Tentative,
                    DadState::Duplicate => AddressState::Duplicate,
                };
                Some(NetObject::Address(device, found.address, state))
            });
            Ok(object.map(event(number)))
        }
        RTM_NEWROUTE | RTM_DELROUTE => {
            let route = RouteMsg::dumped(payload)?.to_route(names);
            Ok(route.map(NetObject::Route).map(event(number)))
        }
        _ => Ok(None),
    }
}

fn read_link(
    names: &mut LinkNames,
    number: u16,
    payload: &[u8],
) -> Result<Option<NetEvent>, Error> {
    // Those of a bridge's ports have the family of bridges, and end with the port.
    if payload.first().copied().map(i32::from) != Some(AF_UNSPEC) {
        return Ok(None);
    }
    let link = state(Link::read(payload)?);
    if number == RTM_NEWLINK {
        names.insert(link.index, link.name.clone());
    } else {
        names.remove(&link.index);
    }
    Ok(Some(event(number)(NetObject::Link(link))))
}

/// Returns the constructor for the type of a message.
fn event(number: u16) -> fn(NetObject) -> NetEvent {
    match number {
        RTM_NEWLINK | RTM_NEWADDR | RTM_NEWROUTE => NetEvent::Changed,
        _ => NetEvent::Gone,
    }
}
