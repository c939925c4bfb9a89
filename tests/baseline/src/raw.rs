//! Requests on their way to the kernel with nothing around them.

use std::io;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr};
use patchbay_netlink::{Batch, NetlinkProtocol};

use crate::error::Error;

/// Bytes of one `sendmsg`. The kernel takes 64 KiB and 1 MiB in the same time.
const PIECE: usize = 64 * 1024;

/// `nlmsghdr`, and where it has its type and flags.
const HEADER: usize = 16;
const KIND: usize = 4;
const FLAGS: usize = 6;
const ACK: u8 = 4;
const ERROR: u8 = 2;

/// Cuts the requests into pieces; only the last of each asks for an answer.
fn pieces<P: NetlinkProtocol>(batch: &Batch<P>) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut last = 0;
    for request in batch.requests() {
        match pieces.last_mut() {
            Some(piece) if piece.len() + request.len() <= PIECE => {
                last = piece.len();
                piece.extend_from_slice(request);
            }
            full => {
                if let Some(piece) = full {
                    piece[last + FLAGS] |= ACK;
                }
                last = 0;
                pieces.push(request.to_vec());
            }
        }
    }
    if let Some(piece) = pieces.last_mut() {
        piece[last + FLAGS] |= ACK;
    }
    pieces
}

/// Sends every request, and times only that.
pub(crate) fn carry_out<P: NetlinkProtocol>(batch: &Batch<P>) -> Result<Duration, Error> {
    let pieces = pieces(batch);
    let mut socket = Socket::new(P::PROTOCOL)?;
    socket.bind_auto()?;
    let kernel = SocketAddr::new(0, 0);
    let mut answer = Vec::with_capacity(PIECE);
    let start = Instant::now();
    for piece in &pieces {
        socket.send_to(piece, &kernel, 0)?;
        answer.clear();
        socket.recv(&mut answer, 0)?;
        check(&answer)?;
    }
    Ok(start.elapsed())
}

/// The first answer to a piece is a refusal, or the last request's ACK.
fn check(answer: &[u8]) -> Result<(), Error> {
    let errno = answer.get(HEADER..).and_then(<[u8]>::first_chunk::<4>);
    match (
        answer.get(KIND),
        errno.map(|bytes| i32::from_ne_bytes(*bytes)),
    ) {
        (Some(&ERROR), Some(0)) => Ok(()),
        (Some(&ERROR), Some(errno)) => Err(Error::Refused(io::Error::from_raw_os_error(-errno))),
        _ => Err(Error::Protocol),
    }
}

#[cfg(test)]
mod tests {
    use patchbay_netlink::{Flags, Rtnetlink};

    use super::*;

    #[test]
    fn the_last_request_of_each_piece_asks_for_an_ack() {
        let mut batch = Batch::<Rtnetlink>::default();
        for _ in 0..3 {
            batch.push(24, Flags::Create, |body| body.raw(&vec![0; 30_000]));
        }
        let pieces = pieces(&batch);
        let flags = |piece: usize, request: usize| {
            u16::from_ne_bytes([
                pieces[piece][request * 30_016 + FLAGS],
                pieces[piece][request * 30_016 + FLAGS + 1],
            ])
        };
        assert_eq!(
            pieces.iter().map(Vec::len).collect::<Vec<_>>(),
            [60_032, 30_016]
        );
        assert_eq!(
            [flags(0, 0), flags(0, 1), flags(1, 0)],
            [0x601, 0x605, 0x605]
        );
    }
}
