//! Attributes to flows.

use std::net::{IpAddr, Ipv6Addr};

use patchbay_types::conntrack::{Flow, Tuple};

use patchbay_netlink::{Attrs, Error, read_be16, read_be32, read_u8};

const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_TIMEOUT: u16 = 7;
const CTA_MARK: u16 = 8;

const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;

pub(super) const CTA_TUPLE_IP: u16 = 1;
pub(super) const CTA_TUPLE_PROTO: u16 = 2;
pub(super) const CTA_IP_V4_SRC: u16 = 1;
pub(super) const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
pub(super) const CTA_PROTO_NUM: u16 = 1;
pub(super) const CTA_PROTO_SRC_PORT: u16 = 2;
pub(super) const CTA_PROTO_DST_PORT: u16 = 3;

/// `nfgenmsg`.
const HEADER: usize = 4;

/// A flow, and the attributes by which the kernel finds it again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tracked<'a> {
    /// What it is.
    pub(super) flow: Flow,
    /// `CTA_TUPLE_ORIG` as the kernel told it.
    pub(super) orig: &'a [u8],
}

fn be32(attrs: &Attrs<'_>, kind: u16) -> Result<u32, Error> {
    Ok(attrs.find(kind)?.map(read_be32).transpose()?.unwrap_or(0))
}

fn nest<'a>(attrs: &Attrs<'a>, kind: u16) -> Result<Attrs<'a>, Error> {
    Attrs::after(0, attrs.find(kind)?.unwrap_or_default())
}

fn address(ip: &Attrs<'_>, v4: u16, v6: u16) -> Result<Option<IpAddr>, Error> {
    let short = Error::Malformed("an address is too short");
    if let Some(value) = ip.find(v4)? {
        let octets = value.first_chunk::<4>().ok_or(short)?;
        return Ok(Some(IpAddr::from(*octets)));
    }
    let Some(value) = ip.find(v6)? else {
        return Ok(None);
    };
    let octets = value.first_chunk::<16>().ok_or(short)?;
    Ok(Some(Ipv6Addr::from(*octets).into()))
}

/// Addresses, ports and protocol; `None` for what is not IP.
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
    };
    Ok(Some((tuple, number)))
}

/// The number of flows in an answer to [`super::request::totals`].
pub(super) fn entries(payload: &[u8]) -> Result<u32, Error> {
    be32(&Attrs::after(HEADER, payload)?, CTA_STATS_GLOBAL_ENTRIES)
}

/// One flow of an answer; `None` for what is not IP.
pub(super) fn flow(payload: &[u8]) -> Result<Option<Tracked<'_>>, Error> {
    let attrs = Attrs::after(HEADER, payload)?;
    let orig = attrs
        .find(super::request::CTA_TUPLE_ORIG)?
        .unwrap_or_default();
    let reply = attrs.find(CTA_TUPLE_REPLY)?.unwrap_or_default();
    let (Some((forth, protocol)), Some((back, _))) = (tuple(orig)?, tuple(reply)?) else {
        return Ok(None);
    };
    let tcp = nest(&nest(&attrs, CTA_PROTOINFO)?, CTA_PROTOINFO_TCP)?;
    let state = tcp.find(CTA_PROTOINFO_TCP_STATE)?;
    let zone = attrs
        .find(super::request::CTA_ZONE)?
        .map(read_be16)
        .transpose()?;
    let timeout = attrs.find(CTA_TIMEOUT)?;
    let flow = Flow {
        orig: forth,
        reply: back,
        protocol,
        tcp_state: state.map(read_u8).transpose()?,
        status: be32(&attrs, CTA_STATUS)?,
        mark: be32(&attrs, CTA_MARK)?,
        zone: zone.unwrap_or(0),
        id: be32(&attrs, super::request::CTA_ID)?,
        timeout: timeout.map(read_be32).transpose()?,
    };
    Ok(Some(Tracked { flow, orig }))
}
