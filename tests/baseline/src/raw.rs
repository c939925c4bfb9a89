//! Sends netlink requests with the least possible work.

use std::io;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr};
use patchbay_netlink::{Batch, NetlinkProtocol};

use crate::error::Error;

/// Bytes per `sendmsg`. The kernel handles 64 KiB and 1 MiB in the same time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Length of `nlmsghdr`, and offsets of its type and flags.
const HEADER_BYTES: usize = 16;
const TYPE_OFFSET: usize = 4;
const FLAGS_OFFSET: usize = 6;
const NLM_F_ACK: u8 = 4;
const NLMSG_ERROR: u8 = 2;

/// Splits the requests into chunks; only the last request of each asks for an ACK.
fn chunks<P: NetlinkProtocol>(batch: &Batch<P>) -> Vec<Vec<u8>> {
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    let mut last = 0;
    for request in batch.requests() {
        match chunks.last_mut() {
            Some(chunk) if chunk.len() + request.len() <= CHUNK_BYTES => {
                last = chunk.len();
                chunk.extend_from_slice(request);
            }
            full => {
                if let Some(chunk) = full {
                    chunk[last + FLAGS_OFFSET] |= NLM_F_ACK;
                }
                last = 0;
                chunks.push(request.to_vec());
            }
        }
    }
    if let Some(chunk) = chunks.last_mut() {
        chunk[last + FLAGS_OFFSET] |= NLM_F_ACK;
    }
    chunks
}

/// Sends all requests and returns the time that it took.
pub(crate) fn send_timed<P: NetlinkProtocol>(batch: &Batch<P>) -> Result<Duration, Error> {
    let chunks = chunks(batch);
    let mut socket = Socket::new(P::PROTOCOL)?;
    socket.bind_auto()?;
    let kernel = SocketAddr::new(0, 0);
    let mut reply = Vec::with_capacity(CHUNK_BYTES);
    let start = Instant::now();
    for chunk in &chunks {
        socket.send_to(chunk, &kernel, 0)?;
        reply.clear();
        socket.recv(&mut reply, 0)?;
        check(&reply)?;
    }
    Ok(start.elapsed())
}

/// Checks the first reply to a chunk: an error, or the ACK of the last request.
fn check(reply: &[u8]) -> Result<(), Error> {
    let errno = reply.get(HEADER_BYTES..).and_then(<[u8]>::first_chunk::<4>);
    match (
        reply.get(TYPE_OFFSET),
        errno.map(|bytes| i32::from_ne_bytes(*bytes)),
    ) {
        (Some(&NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(&NLMSG_ERROR), Some(errno)) => {
            Err(Error::Refused(io::Error::from_raw_os_error(-errno)))
        }
        _ => Err(Error::Protocol),
    }
}

#[cfg(test)]
mod tests {
    use patchbay_netlink::{Flags, Rtnetlink};

    use super::*;

    #[test]
    fn chunks_request_ack_for_last_request_only() {
        let mut batch = Batch::<Rtnetlink>::default();
        for _ in 0..3 {
            batch.push(24, Flags::Create, |body| body.raw(&vec![0; 30_000]));
        }
        let chunks = chunks(&batch);
        let flags = |chunk: usize, request: usize| {
            u16::from_ne_bytes([
                chunks[chunk][request * 30_016 + FLAGS_OFFSET],
                chunks[chunk][request * 30_016 + FLAGS_OFFSET + 1],
            ])
        };
        assert_eq!(
            chunks.iter().map(Vec::len).collect::<Vec<_>>(),
            [60_032, 30_016]
        );
        assert_eq!(
            [flags(0, 0), flags(0, 1), flags(1, 0)],
            [0x601, 0x605, 0x605]
        );
    }
}
