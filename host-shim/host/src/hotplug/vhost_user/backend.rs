//! Checks a vhost-user backend before QEMU connects to it.
//!
//! `netdev_add` blocks QEMU's main loop: a backend that is silent, or has fewer queues than requested,
//! stops the guest. The check sends the same requests with a timeout first.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{QueuePairs, SocketPath};

/// Timeout of each reply.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Requests and bits of the vhost-user protocol (QEMU's `docs/interop/vhost-user.rst`).
const GET_FEATURES: u32 = 1;
const GET_PROTOCOL_FEATURES: u32 = 15;
const GET_QUEUE_NUM: u32 = 17;
const F_PROTOCOL_FEATURES: u64 = 1 << 30;
const PROTOCOL_F_MQ: u64 = 1;
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
/// Size of the header: request, flags and length of the payload, 32 bits each.
const HEADER_BYTES: usize = 12;

/// Checks that the backend at the other end of `stream` has this many queue pairs.
pub(super) fn check(
    stream: &UnixStream,
    socket: &SocketPath,
    pairs: QueuePairs,
) -> Result<(), Failure> {
    let offered = offered(stream).map_err(|error| no_reply(socket, &error))?;
    if offered >= u64::from(pairs.get()) {
        return Ok(());
    }
    let message = format!(
        "queues '{pairs}' is not allowed: the backend at {socket} offers {offered}, and QEMU would \
         stop the guest while it waits for the others"
    );
    Err(Failure::new(Kind::Invalid, message).with_field("queues"))
}

fn no_reply(socket: &SocketPath, error: &io::Error) -> Failure {
    let (kind, cause) = match error.kind() {
        io::ErrorKind::WouldBlock => (
            Kind::Timeout,
            format!("it has not replied for {} s", REPLY_TIMEOUT.as_secs()),
        ),
        _ => (Kind::Other, error.to_string()),
    };
    let message = format!("the vhost-user backend at {socket} does not answer");
    Failure::new(kind, message)
        .with_field("vhostUserSocket")
        .with_cause(cause)
}

/// Returns the number of queue pairs of the backend: one without the multi-queue feature.
fn offered(stream: &UnixStream) -> io::Result<u64> {
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    if get_u64(stream, GET_FEATURES)? & F_PROTOCOL_FEATURES == 0 {
        return Ok(1);
    }
    if get_u64(stream, GET_PROTOCOL_FEATURES)? & PROTOCOL_F_MQ == 0 {
        return Ok(1);
    }
    get_u64(stream, GET_QUEUE_NUM)
}

/// Sends a request whose reply is a 64-bit number; the protocol is in host byte order.
fn get_u64(mut stream: &UnixStream, request: u32) -> io::Result<u64> {
    let words = [request, VERSION, 0].map(u32::to_ne_bytes);
    stream.write_all(&words.concat())?;
    let mut reply = [0; HEADER_BYTES + 8];
    stream.read_exact(&mut reply)?;
    let expected = [request, VERSION | REPLY, 8].map(u32::to_ne_bytes).concat();
    let (header, payload) = reply.split_at(HEADER_BYTES);
    let payload = payload.try_into().map_err(io::Error::other)?;
    if header != expected {
        return Err(io::Error::other("its reply is not vhost-user"));
    }
    Ok(u64::from_ne_bytes(payload))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Checks a backend that sends these replies and closes the connection.
    fn check_replies(replies: &'static [u64], pairs: u64) -> Result<(), Failure> {
        let (client, mut server) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            for reply in replies {
                let mut message = [0; HEADER_BYTES];
                server.read_exact(&mut message).unwrap();
                message[4] |= 4;
                message[8] = 8;
                server
                    .write_all(&[&message[..], &reply.to_ne_bytes()].concat())
                    .unwrap();
            }
        });
        let socket = "/run/vhost-user1".parse().unwrap();
        check(&client, &socket, QueuePairs::try_from(pairs).unwrap())
    }

    #[test]
    fn check_sufficient_queues_succeeds() {
        assert_eq!(check_replies(&[1 << 30, 1, 5], 5), Ok(()));
        assert_eq!(check_replies(&[0], 1), Ok(()));
        assert_eq!(check_replies(&[1 << 30, 0], 1), Ok(()));
    }

    #[test]
    fn check_excess_queues_fails() {
        for (replies, pairs) in [(&[1 << 30, 1, 2][..], 3), (&[0], 2), (&[1 << 30, 0], 2)] {
            let failure = check_replies(replies, pairs).unwrap_err();
            assert_eq!(
                (failure.kind(), failure.field()),
                (Kind::Invalid, Some("queues"))
            );
            assert!(failure.to_string().contains("offers"), "{failure}");
        }
    }

    #[test]
    fn check_closed_connection_fails() {
        let failure = check_replies(&[1 << 30], 2).unwrap_err();
        assert_eq!(failure.field(), Some("vhostUserSocket"));
    }

    #[test]
    fn check_silent_backend_times_out() {
        let (client, _server) = UnixStream::pair().unwrap();
        let socket = "/run/vhost-user1".parse().unwrap();
        let failure = check(&client, &socket, QueuePairs::ONE).unwrap_err();
        assert_eq!(failure.kind(), Kind::Timeout);
    }

    #[test]
    fn check_malformed_reply_fails() {
        let (client, mut server) = UnixStream::pair().unwrap();
        server.write_all(&[7; 64]).unwrap();
        let socket = "/run/vhost-user1".parse().unwrap();
        let failure = check(&client, &socket, QueuePairs::ONE).unwrap_err();
        assert_eq!(failure.chain().next(), Some("its reply is not vhost-user"));
    }
}
