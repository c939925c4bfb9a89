//! Readers of the kernel's answers about links, for the fuzz target.

use std::io;

use netlink_packet_core::NetlinkDeserializable;
use netlink_packet_route::RouteNetlinkMessage;
use patchbay_types::LinkName;

use super::{addresses, routes, rules, source, wire};
use crate::netns::rtnl::Dump;
use crate::netns::vlans::Port;

/// Reads a datagram as each list that a mirror needs. Returns the number of objects.
#[must_use]
pub(crate) fn read(datagram: &[u8]) -> usize {
    let messages: Vec<RouteNetlinkMessage> = listed(datagram);
    let mut mirrored = routes::SourceRoutes::default();
    let mut count = 0;
    let mut own = Vec::new();
    let link: Option<LinkName> = "net1".parse().ok();
    for message in &messages {
        match message {
            RouteNetlinkMessage::NewAddress(message) => {
                own.extend(addresses::address(message));
            }
            RouteNetlinkMessage::NewNeighbour(message) => {
                count += usize::from(addresses::neighbor(message).is_some());
            }
            RouteNetlinkMessage::NewRoute(message) => mirrored.add(message, 2),
            RouteNetlinkMessage::NewRule(message) => {
                count += usize::from(
                    link.iter()
                        .any(|link| rules::selector(message, link, &own).is_some()),
                );
            }
            _ => {}
        }
    }
    let links: Vec<source::AnyLink> = listed(datagram);
    let filters: Vec<wire::FilterPart> = listed(datagram);
    let ports: Vec<Port> = listed(datagram);
    count + own.len() + mirrored.others.len() + links.len() + filters.len() + ports.len()
}

fn listed<T: NetlinkDeserializable>(datagram: &[u8]) -> Vec<T> {
    let mut dump = Dump::default();
    let added: io::Result<()> = dump.add(datagram);
    drop(added);
    dump.listed
}
