//! Static entries of the neighbor tables. The device of an entry is the index of its link.

use std::net::IpAddr;

use libc::{NDA_DST, NDA_LLADDR, NUD_PERMANENT, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH};
use patchbay_types::{LinkLayerAddr, Neighbor, NeighborAddress};

use super::{family, header, put_ip, read_ip};
use patchbay_netlink::{Attrs, Batch, Body, Error, Flags, Rtnetlink, Transport, dump};

/// Size of `ndmsg`: family u8, padding (3 bytes), interface index u32, state u16, flags u8, type u8.
const HEADER: usize = 12;

/// Lists the static entries of both families. Skips those of links whose addresses don't have 6
/// bytes.
pub fn list(socket: &mut impl Transport<Rtnetlink>) -> Result<Vec<Neighbor<u32>>, Error> {
    let request = Batch::of(RTM_GETNEIGH, Flags::Dump, |body| body.raw(&[0; HEADER]));
    dump(socket, &request, read)
}

fn read(payload: &[u8]) -> Result<Option<Neighbor<u32>>, Error> {
    let [_, _, _, _, index @ .., s0, s1, _, _] = *header::<HEADER>(payload)?;
    if u16::from_ne_bytes([s0, s1]) & NUD_PERMANENT == 0 {
        return Ok(None);
    }
    let attrs = Attrs::after(HEADER, payload)?;
    let ip = attrs.find(NDA_DST)?.and_then(|value| read_ip(value).ok());
    let ip = ip.and_then(|ip: IpAddr| NeighborAddress::try_from(ip).ok());
    let lladdr = attrs.find(NDA_LLADDR)?;
    let lladdr = lladdr.and_then(|value| <[u8; 6]>::try_from(value).ok());
    Ok(ip.zip(lladdr).map(|(ip, octets)| Neighbor {
        ip,
        lladdr: LinkLayerAddr::from(octets),
        device: u32::from_ne_bytes(index),
    }))
}

/// Appends a request that adds an entry, in the place of one that the kernel has learned.
pub fn add(batch: &mut Batch<Rtnetlink>, neighbor: &Neighbor<u32>) {
    batch.push(RTM_NEWNEIGH, Flags::Replace, |body| {
        encode(body, neighbor);
        body.bytes(NDA_LLADDR, neighbor.lladdr.octets());
    });
}

/// Appends a request that removes an entry.
pub fn remove(batch: &mut Batch<Rtnetlink>, neighbor: &Neighbor<u32>) {
    batch.push(RTM_DELNEIGH, Flags::Plain, |body| encode(body, neighbor));
}

fn encode(body: &mut Body<'_>, neighbor: &Neighbor<u32>) {
    let ip = neighbor.ip.get();
    body.raw(&[family(ip), 0, 0, 0]);
    body.raw(&neighbor.device.to_ne_bytes());
    let [s0, s1] = NUD_PERMANENT.to_ne_bytes();
    body.raw(&[s0, s1, 0, 0]);
    put_ip(body, NDA_DST, ip);
}
