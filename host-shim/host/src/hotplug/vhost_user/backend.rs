//! What a vhost-user backend says of itself, asked before QEMU is tied to it.
//!
//! QEMU makes a vhost-user netdev with its main loop held: a backend that is mute, or offers fewer
//! queues than it is asked for, stops the guest. So the same questions are put here first, with a
//! deadline, and QEMU only gets what has answered well.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{QueuePairs, SocketPath};

/// Longest wait for each answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Requests and bits of the vhost-user protocol (QEMU's `docs/interop/vhost-user.rst`).
const GET_FEATURES: u32 = 1;
const GET_PROTOCOL_FEATURES: u32 = 15;
const GET_QUEUE_NUM: u32 = 17;
const F_PROTOCOL_FEATURES: u64 = 1 << 30;
const PROTOCOL_F_MQ: u64 = 1;
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
/// Request, flags and length of the payload, 32 bits each.
const HEADER: usize = 12;

/// Asks a backend at the other end of `stream` whether it can serve this many queue pairs.
pub(super) fn check(
    stream: &UnixStream,
    socket: &SocketPath,
    pairs: QueuePairs,
) -> Result<(), Failure> {
    let offered = offered(stream).map_err(|error| mute(socket, &error))?;
    if offered >= u64::from(pairs.get()) {
        return Ok(());
    }
    let sentence = format!(
        "queues '{pairs}' is not allowed: the backend at {socket} offers {offered}, and QEMU would \
         wait for the others with the guest stopped"
    );
    Err(Failure::new(Kind::Invalid, sentence).with_field("queues"))
}

/// A backend that does not answer as one.
fn mute(socket: &SocketPath, error: &io::Error) -> Failure {
    let (kind, cause) = match error.kind() {
        io::ErrorKind::WouldBlock => (
            Kind::Timeout,
            format!("it is silent for {} s", PATIENCE.as_secs()),
        ),
        _ => (Kind::Other, error.to_string()),
    };
    let sentence = format!("the vhost-user backend at {socket} does not answer");
    Failure::new(kind, sentence)
        .with_field("vhostUserSocket")
        .with_cause(cause)
}

/// Queue pairs that the backend offers; without the multi-queue feature there is one.
fn offered(stream: &UnixStream) -> io::Result<u64> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    if ask(stream, GET_FEATURES)? & F_PROTOCOL_FEATURES == 0 {
        return Ok(1);
    }
    if ask(stream, GET_PROTOCOL_FEATURES)? & PROTOCOL_F_MQ == 0 {
        return Ok(1);
    }
    ask(stream, GET_QUEUE_NUM)
}

/// One question whose answer is a number of 64 bits, in host order as all of the protocol.
fn ask(mut stream: &UnixStream, request: u32) -> io::Result<u64> {
    let words = [request, VERSION, 0].map(u32::to_ne_bytes);
    stream.write_all(&words.concat())?;
    let mut reply = [0; HEADER + 8];
    stream.read_exact(&mut reply)?;
    let expected = [request, VERSION | REPLY, 8].map(u32::to_ne_bytes).concat();
    let (header, payload) = reply.split_at(HEADER);
    let payload = payload.try_into().map_err(io::Error::other)?;
    if header != expected {
        return Err(io::Error::other("its answer is not vhost-user"));
    }
    Ok(u64::from_ne_bytes(payload))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A backend that answers so many questions with these numbers, then closes.
    fn backend(answers: &'static [u64], pairs: u64) -> Result<(), Failure> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            for answer in answers {
                let mut question = [0; HEADER];
                theirs.read_exact(&mut question).unwrap();
                question[4] |= 4;
                question[8] = 8;
                theirs
                    .write_all(&[&question[..], &answer.to_ne_bytes()].concat())
                    .unwrap();
            }
        });
        let socket = "/run/vhost-user1".parse().unwrap();
        check(&ours, &socket, QueuePairs::try_from(pairs).unwrap())
    }

    #[test]
    fn as_many_queues_as_are_offered_are_allowed() {
        assert_eq!(backend(&[1 << 30, 1, 5], 5), Ok(()));
        assert_eq!(backend(&[0], 1), Ok(()));
        assert_eq!(backend(&[1 << 30, 0], 1), Ok(()));
    }

    #[test]
    fn more_queues_are_refused_in_a_sentence() {
        for (answers, pairs) in [(&[1 << 30, 1, 2][..], 3), (&[0], 2), (&[1 << 30, 0], 2)] {
            let failure = backend(answers, pairs).unwrap_err();
            assert_eq!(
                (failure.kind(), failure.field()),
                (Kind::Invalid, Some("queues"))
            );
            assert!(failure.to_string().contains("offers"), "{failure}");
        }
    }

    #[test]
    fn a_backend_that_closes_does_not_answer() {
        let failure = backend(&[1 << 30], 2).unwrap_err();
        assert_eq!(failure.field(), Some("vhostUserSocket"));
    }

    #[test]
    fn a_mute_backend_is_left_in_time() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let socket = "/run/vhost-user1".parse().unwrap();
        let failure = check(&ours, &socket, QueuePairs::ONE).unwrap_err();
        assert_eq!(failure.kind(), Kind::Timeout);
    }

    #[test]
    fn nonsense_is_no_answer() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&[7; 64]).unwrap();
        let socket = "/run/vhost-user1".parse().unwrap();
        let failure = check(&ours, &socket, QueuePairs::ONE).unwrap_err();
        assert_eq!(failure.chain().next(), Some("its answer is not vhost-user"));
    }
}
