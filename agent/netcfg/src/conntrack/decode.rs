//! Flows from netlink attributes.

use std::net::IpAddr;

use patchbay_netlink::{Attrs, Error, read_be16, read_be32, read_u8};
use patchbay_types::conntrack::{Flow, ICMP, ICMPV6, Icmp, Tuple};

use super::consts::{
    CTA_ID, CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_IP_V6_DST, CTA_IP_V6_SRC, CTA_LABELS, CTA_MARK,
    CTA_PROTO_DST_PORT, CTA_PROTO_ICMP_CODE, CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE,
    CTA_PROTO_ICMPV6_CODE, CTA_PROTO_ICMPV6_ID, CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT, CTA_PROTOINFO, CTA_PROTOINFO_STATE, CTA_STATS_GLOBAL_ENTRIES, CTA_STATUS,
    CTA_TIMEOUT, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_TUPLE_REPLY, CTA_TUPLE_ZONE,
    CTA_ZONE, HEADER,
};
use crate::inet::read_ip;

/// Flow with the attributes that identify it in a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListedFlow<'a> {
    pub(super) flow: Flow,
    /// Value of `CTA_TUPLE_ORIG` as the kernel sent it.
    pub(super) orig: &'a [u8],
}

fn be32(attrs: &Attrs<'_>, kind: u16) -> Result<u32, Error> {
    Ok(attrs.find(kind)?.map(read_be32).transpose()?.unwrap_or(0))
}

fn be16_or_zero(attrs: &Attrs<'_>, kind: u16) -> Result<u16, Error> {
    Ok(attrs.find(kind)?.map(read_be16).transpose()?.unwrap_or(0))
}

fn nest<'a>(attrs: &Attrs<'a>, kind: u16) -> Result<Attrs<'a>, Error> {
    Attrs::after(0, attrs.find(kind)?.unwrap_or_default())
}

fn address(ip: &Attrs<'_>, v4: u16, v6: u16) -> Result<Option<IpAddr>, Error> {
    let value = ip.find(v4)?.or(ip.find(v6)?);
    value.map(read_ip).transpose()
}

fn icmp(proto: &Attrs<'_>, protocol: u8) -> Result<Option<Icmp>, Error> {
    let [kind, code, id] = match protocol {
        ICMP => [CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE, CTA_PROTO_ICMP_ID],
        ICMPV6 => [
            CTA_PROTO_ICMPV6_TYPE,
            CTA_PROTO_ICMPV6_CODE,
            CTA_PROTO_ICMPV6_ID,
        ],
        _ => return Ok(None),
    };
    let number = |kind| proto.find(kind)?.map(read_u8).transpose();
    let (Some(kind), Some(code)) = (number(kind)?, number(code)?) else {
        return Ok(None);
    };
    let id = be16_or_zero(proto, id)?;
    Ok(Some(Icmp { kind, code, id }))
}

/// Reads the state of TCP, SCTP or DCCP; a flow has the information of at most one protocol.
fn state(attrs: &Attrs<'_>) -> Result<Option<u8>, Error> {
    let Some(info) = nest(attrs, CTA_PROTOINFO)?.next().transpose()? else {
        return Ok(None);
    };
    let state = Attrs::after(0, info.1)?.find(CTA_PROTOINFO_STATE)?;
    state.map(read_u8).transpose()
}

/// Reads the labels, which are the bits of `unsigned long`s.
fn labels(attrs: &Attrs<'_>) -> Result<u128, Error> {
    let bytes = attrs.find(CTA_LABELS)?.unwrap_or_default();
    let bytes = bytes.iter().take(16).rev();
    Ok(bytes.fold(0, |bits, byte| bits << 8 | u128::from(*byte)))
}

/// Reads addresses, ports and the protocol; `None` if the flow isn't IP.
fn tuple(bytes: &[u8]) -> Result<Option<(Tuple, u8)>, Error> {
    let attrs = Attrs::after(0, bytes)?;
    let ip = nest(&attrs, CTA_TUPLE_IP)?;
    let proto = nest(&attrs, CTA_TUPLE_PROTO)?;
    let port = |kind| proto.find(kind)?.map(read_be16).transpose();
    let src = address(&ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?;
    let dst = address(&ip, CTA_IP_V4_DST, CTA_IP_V6_DST)?;
    let number = proto.find(CTA_PROTO_NUM)?.map(read_u8).transpose()?;
    let (Some(src), Some(dst), Some(number)) = (src, dst, number) else {
        return Ok(None);
    };
    let tuple = Tuple {
        src,
        dst,
        src_port: port(CTA_PROTO_SRC_PORT)?,
        dst_port: port(CTA_PROTO_DST_PORT)?,
        icmp: icmp(&proto, number)?,
        zone: be16_or_zero(&attrs, CTA_TUPLE_ZONE)?,
    };
    Ok(Some((tuple, number)))
}

/// Reads the number of flows from a reply to [`super::request::count`].
pub(super) fn count(payload: &[u8]) -> Result<u32, Error> {
    be32(&Attrs::after(HEADER, payload)?, CTA_STATS_GLOBAL_ENTRIES)
}

/// Reads a flow of a dump; `None` if it isn't IP.
pub(super) fn flow(payload: &[u8]) -> Result<Option<ListedFlow<'_>>, Error> {
    let attrs = Attrs::after(HEADER, payload)?;
    let orig = attrs.find(CTA_TUPLE_ORIG)?.unwrap_or_default();
    let reply = attrs.find(CTA_TUPLE_REPLY)?.unwrap_or_default();
    let (Some((orig_tuple, protocol)), Some((reply_tuple, _))) = (tuple(orig)?, tuple(reply)?)
    else {
        return Ok(None);
    };
    let flow = Flow {
        orig: orig_tuple,
        reply: reply_tuple,
        protocol,
        state: state(&attrs)?,
        status: be32(&attrs, CTA_STATUS)?,
        mark: be32(&attrs, CTA_MARK)?,
        zone: be16_or_zero(&attrs, CTA_ZONE)?,
        labels: labels(&attrs)?,
        id: be32(&attrs, CTA_ID)?,
        timeout: attrs.find(CTA_TIMEOUT)?.map(read_be32).transpose()?,
    };
    Ok(Some(ListedFlow { flow, orig }))
}
