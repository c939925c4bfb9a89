//! Readers of the kernel's answers about links, for the fuzz target.

use std::io;

use netlink_packet_core::NetlinkDeserializable;
use netlink_packet_route::RouteNetlinkMessage;

use super::{addresses, routes, source, wire};
use crate::netns::rtnl::Dump;

/// Reads a datagram as each list that a mirror needs. Returns the number of objects.
#[must_use]
pub(crate) fn read(datagram: &[u8]) -> usize {
    let messages: Vec<RouteNetlinkMessage> = listed(datagram);
    let mut mirrored = routes::SourceRoutes::default();
    let mut count = 0;
    for message in &messages {
        match message {
            RouteNetlinkMessage::NewAddress(message) => {
                count += usize::from(addresses::address(message).is_some());
            }
            RouteNetlinkMessage::NewNeighbour(message) => {
                count += usize::from(addresses::neighbor(message).is_some());
            }
            RouteNetlinkMessage::NewRoute(message) => mirrored.add(message, 2),
            _ => {}
        }
    }
    let links: Vec<source::AnyLink> = listed(datagram);
    let filters: Vec<wire::FilterPart> = listed(datagram);
    count + mirrored.others.len() + links.len() + filters.len()
}

fn listed<T: NetlinkDeserializable>(datagram: &[u8]) -> Vec<T> {
    let mut dump = Dump::default();
    let added: io::Result<()> = dump.add(datagram);
    drop(added);
    dump.listed
}
