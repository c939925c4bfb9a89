//! Whether a TAP has a carrier, and so a reader.
//!
//! Only rtnetlink tells that of a TAP that is down (`IFLA_CARRIER`): `ETHTOOL_GLINK` then says no
//! whatever is so, and `IFF_RUNNING` lags up to a second behind.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use patchbay_types::IfName;

/// Asks the network namespace of the calling thread.
pub(super) fn has_carrier(name: &IfName) -> io::Result<bool> {
    let mut ask = LinkMessage::default();
    ask.attributes.push(LinkAttribute::IfName(name.to_string()));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(ask));
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    // The kernel has answered by the time that it has taken the request.
    let (reply, _) = socket.recv_from_full()?;
    let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply);
    match reply.map_err(io::Error::other)?.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
            Ok(link.attributes.contains(&LinkAttribute::Carrier(1)))
        }
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::Error::other("the kernel's answer is no link")),
    }
}
