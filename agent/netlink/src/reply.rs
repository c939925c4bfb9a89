//! A datagram of the kernel, taken apart.

use super::attr::{read_u16, read_u32};
use super::batch::HEADER;
use super::{Attrs, Error, KernelError};

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;

/// A dump's table changed meanwhile.
const DUMP_INTR: u16 = 0x010;
/// An error carries attributes behind the request's header.
const ACK_TLVS: u16 = 0x200;
/// An error repeats only the header of the request.
const CAPPED: u16 = 0x100;

const NLMSGERR_ATTR_MSG: u16 = 1;
/// Longest sentence that is taken from the kernel, in bytes.
const MAX_TEXT: usize = 256;

/// One message of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    pub(super) sequence: u32,
    pub(super) interrupted: bool,
    pub(super) kind: ReplyKind<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReplyKind<'a> {
    /// The end of an answer: an ACK or the end of a dump, or the kernel's no.
    End(Result<(), KernelError>),
    /// Part of an answer.
    Payload(&'a [u8]),
    /// To be passed over.
    Noop,
}

/// The messages of one datagram.
pub(super) struct Replies<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Replies<'a> {
    type Item = Result<Reply<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0);
        Some(message(rest).map(|(reply, next)| {
            self.0 = next;
            reply
        }))
    }
}

fn message(bytes: &[u8]) -> Result<(Reply<'_>, &[u8]), Error> {
    let header = bytes
        .get(..HEADER)
        .ok_or(Error::Malformed("it is shorter than its header"))?;
    let length = usize::try_from(read_u32(&header[0..4])?)
        .map_err(|_| Error::Malformed("a message is longer than its datagram"))?;
    let kind = read_u16(&header[4..6])?;
    let flags = read_u16(&header[6..8])?;
    let payload = bytes
        .get(HEADER..length)
        .ok_or(Error::Malformed("a message is longer than its datagram"))?;
    let kind = match kind {
        NLMSG_NOOP => ReplyKind::Noop,
        NLMSG_OVERRUN => return Err(Error::Overrun),
        NLMSG_ERROR => ReplyKind::End(outcome(payload, flags)?),
        // An old kernel ends a dump without a status.
        NLMSG_DONE if payload.is_empty() => ReplyKind::End(Ok(())),
        NLMSG_DONE => {
            ReplyKind::End(status(payload)?.map_err(|errno| KernelError { errno, text: None }))
        }
        _ => ReplyKind::Payload(payload),
    };
    let reply = Reply {
        sequence: read_u32(&header[8..12])?,
        interrupted: flags & DUMP_INTR != 0,
        kind,
    };
    let next = length.next_multiple_of(4).min(bytes.len());
    Ok((reply, &bytes[next..]))
}

/// The leading number: 0, or an errno negated.
fn status(payload: &[u8]) -> Result<Result<(), i32>, Error> {
    let bytes = payload
        .first_chunk()
        .ok_or(Error::Malformed("an error has no number"))?;
    Ok(match i32::from_ne_bytes(*bytes) {
        0 => Ok(()),
        negated => Err(negated.saturating_neg()),
    })
}

/// `nlmsgerr`: the number, the header of the request and, unless capped, its body, then attributes.
fn outcome(payload: &[u8], flags: u16) -> Result<Result<(), KernelError>, Error> {
    let Err(errno) = status(payload)? else {
        return Ok(Ok(()));
    };
    let mut text = None;
    if flags & ACK_TLVS != 0 {
        let request = payload
            .get(4..8)
            .ok_or(Error::Malformed("an error has no request"))?;
        let repeated = match flags & CAPPED {
            0 => usize::try_from(read_u32(request)?).unwrap_or(usize::MAX),
            _ => HEADER,
        };
        let attrs = Attrs::after(repeated.saturating_add(4).next_multiple_of(4), payload)?;
        text = attrs.find(NLMSGERR_ATTR_MSG)?.map(|bytes| {
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end.min(MAX_TEXT)]).into_owned()
        });
    }
    Ok(Err(KernelError { errno, text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux 6.18 answered to a second 127.0.0.1/8 on `lo`: bytes of a real socket.
    const EEXIST: &str = "48000000020000031b000000384b0000efffffff28000000140005061b000000\
        0000000023000100697076343a204164647265737320616c7265616479206173\
        7369676e65640000";

    #[test]
    fn a_refusal_brings_the_kernels_sentence() {
        let datagram = hex::decode(EEXIST).unwrap();
        let reply = Replies(&datagram).next().unwrap().unwrap();
        assert_eq!(reply.sequence, 27);
        let text = Some("ipv4: Address already assigned".to_owned());
        assert_eq!(
            reply.kind,
            ReplyKind::End(Err(KernelError { errno: 17, text }))
        );
    }

    #[test]
    fn a_message_that_lies_about_its_length_ends_the_datagram() {
        for datagram in [&[1][..], &[0; 16], &[255; 20]] {
            let mut replies = Replies(datagram);
            assert!(
                matches!(replies.next(), Some(Err(Error::Malformed(_)))),
                "{datagram:?}"
            );
            assert!(replies.next().is_none());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_datagram_ends(datagram: Vec<u8>) {
            let count = Replies(&datagram).take(datagram.len() + 1).count();
            proptest::prop_assert!(count <= datagram.len() / HEADER + 1);
        }
    }
}
