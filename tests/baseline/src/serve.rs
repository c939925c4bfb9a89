//! The guest's end of connections that carry bytes and nothing else.

use std::io::{self, Read, Write};
use std::thread;

use netlink_sys::{Socket, SocketAddr};
use patchbay_netlink::{NetlinkProtocol as _, Rtnetlink};
use vsock::{VMADDR_CID_ANY, VsockListener, VsockStream};

use crate::client::Work;
use crate::error::Error;

/// `RTMGRP_LINK`.
const LINKS: u32 = 1;
const NEW_LINK: u8 = 16;
/// Where an event has its type, and `ifinfomsg.ifi_change`.
const KIND: usize = 4;
const CHANGED: std::ops::Range<usize> = 28..32;
const LARGEST_EVENT: usize = 16 * 1024;
/// Asks to be told of the next link that comes; not for the client program.
const WAIT_LINK: u8 = b'l';
const READY: u8 = b'r';

/// Answers on this port, for ever.
pub(crate) fn serve<T>(port: u32) -> Result<T, Error> {
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
    loop {
        let (stream, _) = listener.accept()?;
        thread::spawn(move || {
            if let Err(error) = answer(stream) {
                eprintln!("patchbay-baseline: {error}");
            }
        });
    }
}

fn answer(mut stream: VsockStream) -> Result<(), Error> {
    let mut request = [0; 5];
    stream.read_exact(&mut request)?;
    let [work, count @ ..] = request;
    let count = u64::from(u32::from_le_bytes(count));
    if work == WAIT_LINK {
        return tell_of_a_link(&mut stream);
    }
    match Work::of(work)? {
        Work::Echo => {
            let mut bytes = Vec::new();
            (&stream).take(count).read_to_end(&mut bytes)?;
            stream.write_all(&bytes)?;
        }
        Work::Send => {
            io::copy(&mut (&stream).take(count), &mut io::sink())?;
            stream.write_all(&[READY])?;
        }
        Work::Receive => {
            io::copy(&mut io::repeat(0).take(count), &mut stream)?;
        }
    }
    Ok(())
}

fn tell_of_a_link(stream: &mut VsockStream) -> Result<(), Error> {
    let mut links = Socket::new(Rtnetlink::PROTOCOL)?;
    links.bind(&SocketAddr::new(0, LINKS))?;
    stream.write_all(&[READY])?;
    let mut event = Vec::with_capacity(LARGEST_EVENT);
    while !is_of_a_new_link(&event) {
        event.clear();
        links.recv(&mut event, 0)?;
    }
    stream.write_all(&[WAIT_LINK])?;
    Ok(())
}

/// Links that go, and carriers that come late, are told of too; a registration alone says that
/// everything has changed.
fn is_of_a_new_link(event: &[u8]) -> bool {
    event.get(KIND) == Some(&NEW_LINK) && event.get(CHANGED) == Some(&[u8::MAX; 4])
}
