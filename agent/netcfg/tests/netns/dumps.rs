//! Dumps of a table that changes meanwhile. The kernel marks their replies with `NLM_F_DUMP_INTR`.

use std::collections::BTreeSet;

use patchbay_netlink::{
    Batch, Error, Flags, RecvBuffer, Rtnetlink, Socket, Transport as _, collect_dump, read_u32,
};

use crate::harness::{ip, ip_batch, ip_json, netcfg_with_veths};

const RTM_GETLINK: u16 = 18;

/// Opens a socket, in a namespace with enough links for many datagrams: the kernel prepares the second
/// one before the first is read.
fn socket_among_links() -> Socket<Rtnetlink> {
    netcfg_with_veths();
    let add = |number| format!("link add d{number} type bridge\n");
    ip_batch(&(0..100).map(add).collect::<String>());
    Socket::open(RecvBuffer::Small).unwrap()
}

fn links() -> Batch<Rtnetlink> {
    Batch::of(RTM_GETLINK, Flags::Dump, |body| body.raw(&[0; 16]))
}

/// Replaces the first link during the first reply of the first dump.
fn change_once(changed: &mut bool) {
    if !std::mem::replace(changed, true) {
        ip("link del d0");
        ip("link add d100 type bridge");
    }
}

#[test]
fn dump_of_links_that_change_is_interrupted() {
    let mut socket = socket_among_links();
    let mut changed = false;
    let dumped = socket.dump(&links(), &mut |_| {
        change_once(&mut changed);
        Ok(())
    });
    assert!(matches!(dumped, Err(Error::Interrupted)), "{dumped:?}");
    let mut changed = false;
    ip("link add d0 type bridge");
    ip("link del d100");
    let dumped = socket.dump_first(&links(), 1000, &mut |_| {
        change_once(&mut changed);
        Ok(())
    });
    assert!(matches!(dumped, Err(Error::Interrupted)), "{dumped:?}");
}

#[test]
fn collect_dump_of_links_that_change_has_the_later_state() {
    let mut socket = socket_among_links();
    let mut changed = false;
    let collected = collect_dump(&mut socket, &links(), |indices: &mut Vec<u32>, payload| {
        change_once(&mut changed);
        indices.push(read_u32(&payload[4..8])?);
        Ok(())
    });
    let listed = ip_json("link show");
    let listed = listed.as_array().unwrap().iter();
    let listed: BTreeSet<_> = listed
        .map(|link| link["ifindex"].as_u64().unwrap())
        .collect();
    let mut collected: Vec<_> = collected.unwrap().into_iter().map(u64::from).collect();
    collected.sort_unstable();
    assert_eq!(collected, listed.into_iter().collect::<Vec<_>>());
}
