//! Creates tracked flows without traffic.

use std::net::Ipv4Addr;
use std::time::Duration;

use patchbay_netlink::{Batch, Body, Flags, Netfilter};

use crate::error::Error;
use crate::raw;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW`.
const CT_NEW: u16 = 0x100;
/// `nfgenmsg`: `AF_INET`.
const HEADER: [u8; 4] = [2, 0, 0, 0];
/// `CTA_*`.
const ORIG: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const TIMEOUT: u16 = 7;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const SRC: u16 = 1;
const DST: u16 = 2;
const PROTOCOL: u16 = 1;
const SRC_PORT: u16 = 2;
const DST_PORT: u16 = 3;

/// `IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED`.
const ESTABLISHED: u32 = 14;
const TIMEOUT_SECONDS: u32 = 3600;
/// `IPPROTO_UDP`.
const UDP: u8 = 17;
const DESTINATION_PORT: u16 = 53;
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(30, 0, 0, 1);

fn tuple(body: &mut Body<'_>, kind: u16, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) {
    body.nest(kind, |tuple| {
        tuple.nest(TUPLE_IP, |ip| {
            ip.bytes(SRC, src.0.octets());
            ip.bytes(DST, dst.0.octets());
        });
        tuple.nest(TUPLE_PROTO, |proto| {
            proto.u8(PROTOCOL, UDP);
            proto.bytes(SRC_PORT, src.1.to_be_bytes());
            proto.bytes(DST_PORT, dst.1.to_be_bytes());
        });
    });
}

/// Creates `count` flows to one address, each from another address.
pub(crate) fn fill(count: u32, to: Ipv4Addr) -> Result<Duration, Error> {
    let mut batch = Batch::<Netfilter>::default();
    for number in 0..count {
        let from = (Ipv4Addr::from(u32::from(FIRST_SOURCE) + number), 4000);
        let to = (to, DESTINATION_PORT);
        batch.push(CT_NEW, Flags::Create, |body| {
            body.raw(&HEADER);
            tuple(body, ORIG, from, to);
            tuple(body, REPLY, to, from);
            body.bytes(STATUS, ESTABLISHED.to_be_bytes());
            body.bytes(TIMEOUT, TIMEOUT_SECONDS.to_be_bytes());
        });
    }
    raw::send_timed(&batch)
}
