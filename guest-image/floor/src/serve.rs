//! The guest's end of connections that carry bytes and nothing else.

use std::io::{self, Read, Write};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use patchbay_agent::netlink::{Route, Socket};
use std::os::fd::AsFd as _;
use vsock::{VMADDR_CID_ANY, VsockListener, VsockStream};

use crate::client::Work;
use crate::error::Error;

/// `RTMGRP_LINK`.
const LINKS: u32 = 1;
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
                eprintln!("patchbay-floor: {error}");
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
    let links = Socket::<Route>::listen(LINKS)?;
    stream.write_all(&[READY])?;
    poll(
        &mut [PollFd::new(links.as_fd(), PollFlags::POLLIN)],
        PollTimeout::NONE,
    )?;
    stream.write_all(&[WAIT_LINK])?;
    Ok(())
}
