//! Fake kernel with replies from the fuzzer.

use super::reply::{Replies, ReplyKind};
use super::{Attrs, Batch, Each, Error, KernelError, NetlinkProtocol, Transport};

/// Kernel that sends the same bytes in reply to every request.
#[derive(Debug, Clone, Copy)]
pub enum FuzzKernel<'a> {
    /// Payload of a single message.
    Payload(&'a [u8]),
    /// Datagram with any number of messages.
    Datagram(&'a [u8]),
}

impl<P: NetlinkProtocol> Transport<P> for FuzzKernel<'_> {
    fn send(&mut self, batch: &Batch<P>) -> Result<Vec<(usize, KernelError)>, Error> {
        let FuzzKernel::Datagram(bytes) = self else {
            return Ok(Vec::new());
        };
        let mut errors = Vec::new();
        for (position, reply) in Replies(bytes).enumerate().take(batch.len()) {
            if let ReplyKind::End(Err(error)) = reply?.kind {
                errors.push((position, error));
            }
        }
        Ok(errors)
    }

    fn dump(&mut self, _: &Batch<P>, each: Each<'_>) -> Result<(), Error> {
        let bytes = match self {
            FuzzKernel::Payload(payload) => return each(payload),
            FuzzKernel::Datagram(bytes) => bytes,
        };
        let mut interrupted = false;
        for reply in Replies(bytes) {
            let reply = reply?;
            interrupted |= reply.interrupted;
            match reply.kind {
                ReplyKind::Payload(payload) => each(payload)?,
                ReplyKind::End(Err(error)) => return Err(Error::Refused(error)),
                ReplyKind::End(Ok(())) => break,
                ReplyKind::Noop => {}
            }
        }
        if interrupted {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}

/// Returns the bodies of the requests of a batch.
///
/// # Panics
/// Panics if the parser can't read the encoded requests.
#[must_use]
pub fn bodies<P: NetlinkProtocol>(batch: &Batch<P>) -> Vec<Vec<u8>> {
    if batch.is_empty() {
        return Vec::new();
    }
    let bytes = batch.encode(&(0..batch.len()), 1, 0);
    let bodies = Replies(&bytes).map(|reply| match reply {
        Ok(reply) => match reply.kind {
            ReplyKind::Payload(body) => body.to_vec(),
            kind => panic!("a request is read as {kind:?}"),
        },
        Err(error) => panic!("a request can't be read back: {error}"),
    });
    bodies.collect()
}

/// Walks through a datagram, and through the attributes of each message two nests deep. Returns the
/// number of messages and attributes.
#[must_use]
pub fn walk(datagram: &[u8]) -> usize {
    let mut count = 0;
    for reply in Replies(datagram) {
        count += 1;
        if let Ok(reply) = reply
            && let ReplyKind::Payload(payload) = reply.kind
        {
            count += attributes(payload, 2);
        }
    }
    count
}

fn attributes(bytes: &[u8], depth: usize) -> usize {
    let Ok(attrs) = Attrs::after(0, bytes) else {
        return 0;
    };
    let nested = |value| match depth {
        0 => 0,
        _ => attributes(value, depth - 1),
    };
    attrs.flatten().map(|(_, value)| 1 + nested(value)).sum()
}
