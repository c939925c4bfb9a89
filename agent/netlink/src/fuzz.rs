//! A kernel whose answers the fuzzer makes up.

use super::reply::{Replies, ReplyKind};
use super::{Attrs, Batch, Connection, Error, Family, KernelError};

/// What the kernel says, whatever it is asked.
#[derive(Debug, Clone, Copy)]
pub enum Script<'a> {
    /// The payload of one message.
    Payload(&'a [u8]),
    /// A datagram, to be taken apart first.
    Datagram(&'a [u8]),
}

impl<F: Family> Connection<F> for Script<'_> {
    fn send(&mut self, batch: &Batch<F>) -> Result<Vec<(usize, KernelError)>, Error> {
        let Script::Datagram(bytes) = self else {
            return Ok(Vec::new());
        };
        let mut refusals = Vec::new();
        for (position, reply) in Replies(bytes).enumerate().take(batch.len()) {
            if let ReplyKind::End(Err(refusal)) = reply?.kind {
                refusals.push((position, refusal));
            }
        }
        Ok(refusals)
    }

    fn dump(
        &mut self,
        _: &Batch<F>,
        each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let bytes = match self {
            Script::Payload(payload) => return each(payload),
            Script::Datagram(bytes) => bytes,
        };
        let mut interrupted = false;
        for reply in Replies(bytes) {
            let reply = reply?;
            interrupted |= reply.interrupted;
            match reply.kind {
                ReplyKind::Payload(payload) => each(payload)?,
                ReplyKind::End(Err(refusal)) => return Err(Error::Refused(refusal)),
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

/// The bodies of the requests of a batch.
///
/// # Panics
/// When what we encode is not what we decode.
#[must_use]
pub fn bodies<F: Family>(batch: &Batch<F>) -> Vec<Vec<u8>> {
    if batch.is_empty() {
        return Vec::new();
    }
    let bytes = batch.encode(&(0..batch.len()), 1, 0);
    let bodies = Replies(&bytes).map(|reply| match reply {
        Ok(reply) => match reply.kind {
            ReplyKind::Payload(body) => body.to_vec(),
            kind => panic!("a request is {kind:?}"),
        },
        Err(error) => panic!("a request can't be read back: {error}"),
    });
    bodies.collect()
}

/// Walks a datagram to its end, and the attributes of each message two nests deep; returns how
/// many messages and attributes there were.
#[must_use]
pub fn walk(datagram: &[u8]) -> usize {
    let mut seen = 0;
    for reply in Replies(datagram) {
        seen += 1;
        if let Ok(reply) = reply
            && let ReplyKind::Payload(payload) = reply.kind
        {
            seen += attributes(payload, 2);
        }
    }
    seen
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
