//! Real servers (`IPVS_CMD_ATTR_DEST`): encoding and decoding of their attributes.

use patchbay_netlink::{Body, Error, IntAttr, read_be16, read_u8, read_u16, read_u32};
use patchbay_types::ipvs::{
    Detail, Family, Forward, ListedServer, NonNegativeInt, Server, ServerId, Tunnel,
};

use super::consts::{FWD_MASK, top};
use super::decode::{Nest, address, family, nest, require, stats, u32_or_zero, valid};
use crate::inet::{af, put_ip_union};

// IPVS_DEST_ATTR_*
pub(super) const ADDR: u16 = 1;
pub(super) const PORT: u16 = 2;
pub(super) const FWD_METHOD: u16 = 3;
pub(super) const WEIGHT: u16 = 4;
pub(super) const U_THRESH: u16 = 5;
pub(super) const L_THRESH: u16 = 6;
pub(super) const ACTIVE_CONNS: u16 = 7;
pub(super) const INACT_CONNS: u16 = 8;
pub(super) const PERSIST_CONNS: u16 = 9;
pub(super) const STATS: u16 = 10;
pub(super) const ADDR_FAMILY: u16 = 11;
pub(super) const STATS64: u16 = 12;
pub(super) const TUN_TYPE: u16 = 13;
pub(super) const TUN_PORT: u16 = 14;
pub(super) const TUN_FLAGS: u16 = 15;

/// Appends the attributes that identify a server.
pub(super) fn encode_id(nest: &mut Body<'_>, id: ServerId) {
    nest.u16(ADDR_FAMILY, af(Family::of(id.address)).into());
    put_ip_union(nest, ADDR, id.address);
    nest.ints([IntAttr::be16(PORT, id.port)]);
}

/// Appends the nest of a server.
pub(super) fn encode(body: &mut Body<'_>, server: &Server) {
    body.nest(top::DEST, |nest| {
        encode_id(nest, server.id);
        nest.ints([
            IntAttr::u32(FWD_METHOD, server.forward.number()),
            IntAttr::u32(WEIGHT, server.weight.get()),
        ]);
        // Old kernels have none of these attributes, so only a tunnel gets them.
        if let Forward::Tunnel(tunnel) = server.forward {
            let (kind, port, checksum) = tunnel.numbers();
            nest.u8(TUN_TYPE, kind);
            nest.ints([
                IntAttr::be16(TUN_PORT, port),
                IntAttr::u16(TUN_FLAGS, checksum.into()),
            ]);
        }
        nest.ints([
            IntAttr::u32(U_THRESH, server.upper.get()),
            IntAttr::u32(L_THRESH, server.lower.get()),
        ]);
    });
}

/// Reads a server. Linux before 3.18 doesn't send its family; it is that of the service.
pub(super) fn decode(payload: &[u8], of: Family, detail: Detail) -> Result<ListedServer, Error> {
    let attrs = nest(payload, top::DEST)?;
    let family = match attrs.find(ADDR_FAMILY).map(read_u16).transpose()? {
        Some(number) if number != 0 => family(number)?,
        _ => of,
    };
    let count = |kind| valid(NonNegativeInt::try_from(u32_or_zero(&attrs, kind)?));
    let forward = match read_u32(require(&attrs, FWD_METHOD)?)? & FWD_MASK {
        2 => Forward::Tunnel(tunnel(&attrs)?),
        number => valid(Forward::plain(number))?,
    };
    let server = Server {
        id: ServerId {
            address: address(require(&attrs, ADDR)?, family)?,
            port: read_be16(require(&attrs, PORT)?)?,
        },
        forward,
        weight: count(WEIGHT)?,
        upper: count(U_THRESH)?,
        lower: count(L_THRESH)?,
    };
    Ok(ListedServer {
        server,
        active: u32_or_zero(&attrs, ACTIVE_CONNS)?,
        inactive: u32_or_zero(&attrs, INACT_CONNS)?,
        persistent: u32_or_zero(&attrs, PERSIST_CONNS)?,
        stats: stats(&attrs, STATS64, STATS, detail)?,
    })
}

fn tunnel(attrs: &Nest<'_>) -> Result<Tunnel, Error> {
    let kind = attrs.find(TUN_TYPE).map(read_u8).transpose()?;
    let port = attrs.find(TUN_PORT).map(read_be16).transpose()?;
    let checksum = attrs.find(TUN_FLAGS).map(read_u16).transpose()?;
    valid(Tunnel::try_from((
        kind.unwrap_or(0).into(),
        port.unwrap_or(0).into(),
        checksum.unwrap_or(0).into(),
    )))
}
