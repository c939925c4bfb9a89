//! Parser for the messages of a datagram.

use super::attr::{read_u16, read_u32};
use super::batch::HEADER;
use super::{Attrs, Error, KernelError};

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;

/// `NLM_F_DUMP_INTR`: the table changed during the dump.
const DUMP_INTR: u16 = 0x010;
/// `NLM_F_ACK_TLVS`: attributes follow the repeated request.
const ACK_TLVS: u16 = 0x200;
/// `NLM_F_CAPPED`: only the header of the request is repeated.
const CAPPED: u16 = 0x100;

const NLMSGERR_ATTR_MSG: u16 = 1;
/// Maximum length of an extended ACK's text; longer ones are cut.
const MAX_TEXT_BYTES: usize = 256;

/// Message of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    pub(super) sequence: u32,
    /// `nlmsg_type`.
    pub(super) number: u16,
    pub(super) interrupted: bool,
    pub(super) kind: ReplyKind<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReplyKind<'a> {
    /// `NLMSG_ERROR` or `NLMSG_DONE`: ACK, error or end of a dump.
    End(Result<(), KernelError>),
    /// Body of a message of the protocol.
    Payload(&'a [u8]),
    /// `NLMSG_NOOP`: to be skipped.
    Noop,
}

/// Iterator over the messages of a datagram; ends after the first malformed one.
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
        .ok_or(Error::Malformed("a message is shorter than its header"))?;
    let length = usize::try_from(read_u32(&header[0..4])?)
        .map_err(|_| Error::Malformed("a message is longer than its datagram"))?;
    let number = read_u16(&header[4..6])?;
    let flags = read_u16(&header[6..8])?;
    let payload = bytes
        .get(HEADER..length)
        .ok_or(Error::Malformed("a message is longer than its datagram"))?;
    let kind = match number {
        NLMSG_NOOP => ReplyKind::Noop,
        NLMSG_OVERRUN => return Err(Error::Overrun),
        NLMSG_ERROR => ReplyKind::End(outcome(payload, flags)?),
        // Old kernels end a dump without a status.
        NLMSG_DONE if payload.is_empty() => ReplyKind::End(Ok(())),
        NLMSG_DONE => {
            ReplyKind::End(status(payload)?.map_err(|errno| KernelError { errno, text: None }))
        }
        _ => ReplyKind::Payload(payload),
    };
    let reply = Reply {
        sequence: read_u32(&header[8..12])?,
        number,
        interrupted: flags & DUMP_INTR != 0,
        kind,
    };
    let next = length.next_multiple_of(4).min(bytes.len());
    Ok((reply, &bytes[next..]))
}

/// Reads the leading status: 0 or a negated errno.
fn status(payload: &[u8]) -> Result<Result<(), i32>, Error> {
    let bytes = payload
        .first_chunk()
        .ok_or(Error::Malformed("an error has no errno"))?;
    Ok(match i32::from_ne_bytes(*bytes) {
        0 => Ok(()),
        negated => Err(negated.saturating_neg()),
    })
}

/// Reads `nlmsgerr`: status, header of the request and, unless capped, its body, then attributes.
fn outcome(payload: &[u8], flags: u16) -> Result<Result<(), KernelError>, Error> {
    let Err(errno) = status(payload)? else {
        return Ok(Ok(()));
    };
    let mut text = None;
    if flags & ACK_TLVS != 0 {
        let request = payload
            .get(4..8)
            .ok_or(Error::Malformed("an error does not repeat its request"))?;
        let repeated = match flags & CAPPED {
            0 => usize::try_from(read_u32(request)?).unwrap_or(usize::MAX),
            _ => HEADER,
        };
        let attrs = Attrs::after(repeated.saturating_add(4).next_multiple_of(4), payload)?;
        text = attrs.find(NLMSGERR_ATTR_MSG)?.map(|bytes| {
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end.min(MAX_TEXT_BYTES)]).into_owned()
        });
    }
    Ok(Err(KernelError { errno, text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded reply of Linux 6.18 to adding 127.0.0.1/8 to `lo` a second time.
    const EEXIST: &str = "48000000020000031b000000384b0000efffffff28000000140005061b000000\
        0000000023000100697076343a204164647265737320616c7265616479206173\
        7369676e65640000";

    #[test]
    fn error_includes_extended_ack() {
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
    fn wrong_message_length_ends_datagram() {
        for datagram in [&[1][..], &[0; 16], &[255; 20]] {
            let mut replies = Replies(datagram);
            assert!(
                matches!(replies.next(), Some(Err(Error::Malformed(_)))),
                "{datagram:?}"
            );
            assert!(replies.next().is_none());
        }
    }

    fn count(datagram: &[u8]) -> usize {
        Replies(datagram).take(datagram.len() + 1).count()
    }

    #[test]
    fn every_cut_and_every_changed_byte_of_a_reply_ends() {
        let recorded = hex::decode(EEXIST).unwrap();
        for end in 0..recorded.len() {
            let cut = Replies(&recorded[..end]).next();
            assert!(!matches!(cut, Some(Ok(_))), "{end}");
        }
        for at in 0..recorded.len() {
            for byte in 0..=u8::MAX {
                let mut datagram = recorded.clone();
                datagram[at] = byte;
                assert!(count(&datagram) <= datagram.len() / HEADER + 1);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn replies_of_any_datagram_terminate(datagram: Vec<u8>) {
            proptest::prop_assert!(count(&datagram) <= datagram.len() / HEADER + 1);
        }
    }
}
