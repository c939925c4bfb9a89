//! Redirections to TAPs that are gone.
//!
//! The journal knows the wire of each card. Without it, as after the removal of the run directory, the
//! filter of a link whose TAP has ended remains and swallows its frames.

use std::collections::HashSet;
use std::io;

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use patchbay_types::failure::Failure;

use super::wire;
use crate::netns::Netns;
use crate::netns::Rtnetlink;

/// Index of a link; its attributes are not needed.
struct Index(u32);

impl NetlinkDeserializable for Index {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let index = payload.get(4..).and_then(|rest| rest.first_chunk());
        let index = index.ok_or_else(|| DecodeError::from("a link is shorter than its header"))?;
        Ok(Self(u32::from_ne_bytes(*index)))
    }
}

/// Removes the filters of patchbay whose TAP is gone. Returns the indices of their links.
pub(crate) fn cut_strays(netns: &Netns) -> Result<Vec<u32>, Failure> {
    let cut = || -> io::Result<Vec<u32>> {
        let rtnl = Rtnetlink::open(netns)?;
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links: HashSet<u32> = rtnl
            .dump(&request)?
            .into_iter()
            .map(|Index(link)| link)
            .collect();
        let mut strays = Vec::new();
        for link in &links {
            if wire::cut_stray(&rtnl, *link, &links)? {
                strays.push(*link);
            }
        }
        Ok(strays)
    };
    cut().map_err(|error| Failure::of_io("could not look for redirections of links", &error))
}
