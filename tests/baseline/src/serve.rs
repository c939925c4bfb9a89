//! Server in the guest: exchanges bytes over vsock and reports new links.

use std::io::{self, Read, Write};
use std::thread;

use netlink_sys::{Socket, SocketAddr};
use patchbay_netlink::{NetlinkProtocol as _, Rtnetlink};
use vsock::{VMADDR_CID_ANY, VsockListener, VsockStream};

use crate::client::Exchange;
use crate::error::Error;

/// `RTMGRP_LINK`.
const LINK_GROUP: u32 = 1;
/// `RTM_NEWLINK`.
const RTM_NEWLINK: u8 = 16;
/// Offset of `nlmsg_type`'s low byte.
const TYPE_OFFSET: usize = 4;
/// Offsets of `ifinfomsg.ifi_change`.
const CHANGE_MASK: std::ops::Range<usize> = 28..32;
const MAX_EVENT_BYTES: usize = 16 * 1024;
/// Request of the benchmarks for a reply when the next link appears.
const WAIT_FOR_LINK: u8 = b'l';
const READY: u8 = b'r';

/// Serves the port forever.
pub(crate) fn serve<T>(port: u32) -> Result<T, Error> {
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
    loop {
        let (stream, _) = listener.accept()?;
        thread::spawn(move || {
            if let Err(error) = handle(stream) {
                eprintln!("patchbay-baseline: {error}");
            }
        });
    }
}

fn handle(mut stream: VsockStream) -> Result<(), Error> {
    let mut request = [0; 5];
    stream.read_exact(&mut request)?;
    let [code, count @ ..] = request;
    let count = u64::from(u32::from_le_bytes(count));
    if code == WAIT_FOR_LINK {
        return report_next_link(&mut stream);
    }
    match Exchange::from_byte(code)? {
        Exchange::Echo => {
            let mut bytes = Vec::new();
            (&stream).take(count).read_to_end(&mut bytes)?;
            stream.write_all(&bytes)?;
        }
        Exchange::Send => {
            io::copy(&mut (&stream).take(count), &mut io::sink())?;
            stream.write_all(&[READY])?;
        }
        Exchange::Receive => {
            io::copy(&mut io::repeat(0).take(count), &mut stream)?;
        }
    }
    Ok(())
}

fn report_next_link(stream: &mut VsockStream) -> Result<(), Error> {
    let mut links = Socket::new(Rtnetlink::PROTOCOL)?;
    links.bind(&SocketAddr::new(0, LINK_GROUP))?;
    stream.write_all(&[READY])?;
    let mut event = Vec::with_capacity(MAX_EVENT_BYTES);
    while !is_new_link(&event) {
        event.clear();
        links.recv(&mut event, 0)?;
    }
    stream.write_all(&[WAIT_FOR_LINK])?;
    Ok(())
}

/// Returns whether the event is a registration, which has all bits of the change mask set; changes of
/// existing links have not.
fn is_new_link(event: &[u8]) -> bool {
    event.get(TYPE_OFFSET) == Some(&RTM_NEWLINK) && event.get(CHANGE_MASK) == Some(&[u8::MAX; 4])
}
