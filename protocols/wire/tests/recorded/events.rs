//! Messages of events.

use patchbay_codec::pack;
use patchbay_types::{
    AddressState, Carrier, InterfaceAddress, LinkName, LinkState, MacAddr, NetEvent, NetObject,
};
use patchbay_wire::proto::agent::ListRoutesRequest;
use patchbay_wire::proto::conntrack::ListChunk;

use super::unreleased::{RECORDED, bytes};
use super::{message, replay_bulk};

fn events() -> Vec<NetEvent> {
    let device: LinkName = "eth-test".parse().unwrap();
    let address = InterfaceAddress::new("172.16.0.3".parse().unwrap(), 16).unwrap();
    let link = LinkState {
        index: 300,
        name: device.clone(),
        mac: MacAddr::try_from([2, 0, 0, 0, 0, 1]).ok(),
        mtu: 1500,
        up: true,
        carrier: Carrier::On,
    };
    vec![
        NetEvent::Changed(NetObject::Link(link)),
        NetEvent::Gone(NetObject::Address(device, address, AddressState::Usable)),
        NetEvent::Lost,
    ]
}

/// The messages by name.
pub(super) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let chunk = ListChunk {
        layout: 0,
        rows: events().iter().flat_map(pack).collect(),
        ..Default::default()
    };
    vec![
        ("Events.Watch.request", bytes(&ListRoutesRequest::default())),
        ("Events.Watch.reply", bytes(&chunk)),
    ]
}

#[test]
fn host_decodes_recorded_events() {
    let watched: ListChunk = message(RECORDED, "Events.Watch.reply");
    assert_eq!(replay_bulk::<NetEvent>(&watched.rows), events());
}
