//! The frames that `patchbay-sandbox exec` and `patchbay-execd` exchange: kind (one byte), payload
//! length (four bytes, big-endian), payload.
//!
//! The host opens with one [`Frame::Command`], then sends [`Frame::Stdin`] and at last
//! [`Frame::StdinEnd`]; the guest answers with output and exactly one of [`Frame::Exited`] and
//! [`Frame::Failed`]. The end of the input is a frame, not a half-closed socket, so that a closed
//! socket always means "the other side is gone".

use std::io::{self, Read, Write};

/// The most bytes that one frame carries.
pub const MAX_PAYLOAD: usize = 64 * 1024;

const HEADER_LEN: usize = 5;

/// One message between the host and the command server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Start this program with these arguments; the first is the program.
    Command(Vec<Vec<u8>>),
    /// Bytes for the program's standard input.
    Stdin(Vec<u8>),
    /// The standard input has ended.
    StdinEnd,
    /// Bytes from the program's standard output.
    Stdout(Vec<u8>),
    /// Bytes from the program's standard error.
    Stderr(Vec<u8>),
    /// The program ended with this status, or with 128 + the signal that killed it.
    Exited(i32),
    /// The program could not be started, for this reason.
    Failed(String),
}

/// A frame that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The first byte names no kind of frame.
    #[error("The frame kind {0} is unknown.")]
    UnknownKind(u8),
    /// More bytes than one frame may carry.
    #[error("A frame of {length} bytes is longer than the allowed {MAX_PAYLOAD}.")]
    TooLong {
        /// The payload's length as announced or asked for.
        length: usize,
    },
    /// The connection ended inside a frame.
    #[error("The connection ended in the middle of a frame.")]
    Truncated,
    /// The payload doesn't have the form that its kind asks for.
    #[error("The payload of a frame of kind {kind} is malformed.")]
    MalformedPayload {
        /// The kind whose payload it is.
        kind: u8,
    },
    /// A command without a program.
    #[error("A command needs at least the name of a program.")]
    EmptyCommand,
    /// Arguments are separated by NUL, so none may hold one.
    #[error("An argument of a command holds a NUL byte.")]
    NulInArgument,
    /// The connection failed.
    #[error("The connection failed.")]
    Connection(#[from] io::Error),
}

const COMMAND: u8 = 1;
const STDIN: u8 = 2;
const STDIN_END: u8 = 3;
const STDOUT: u8 = 4;
const STDERR: u8 = 5;
const EXITED: u8 = 6;
const FAILED: u8 = 7;

impl Frame {
    /// Writes the frame in one call of `write_all`, so that a lock around it keeps frames whole.
    pub fn write_to(&self, writer: &mut impl Write) -> Result<(), FrameError> {
        let (kind, payload) = self.encode()?;
        let too_long = || FrameError::TooLong {
            length: payload.len(),
        };
        if payload.len() > MAX_PAYLOAD {
            return Err(too_long());
        }
        let length = u32::try_from(payload.len()).map_err(|_| too_long())?;
        let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&payload);
        writer.write_all(&bytes)?;
        writer.flush()?;
        Ok(())
    }

    /// Reads one frame; `None` when the connection ended between two frames.
    pub fn read_from(reader: &mut impl Read) -> Result<Option<Self>, FrameError> {
        let mut header = [0; HEADER_LEN];
        if read_first_byte(reader, &mut header)? == 0 {
            return Ok(None);
        }
        read_rest(reader, &mut header[1..])?;
        let [kind, length @ ..] = header;
        if !(COMMAND..=FAILED).contains(&kind) {
            return Err(FrameError::UnknownKind(kind));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(FrameError::TooLong { length });
        }
        let mut payload = vec![0; length];
        read_rest(reader, &mut payload)?;
        Self::decode(kind, payload).map(Some)
    }

    fn encode(&self) -> Result<(u8, Vec<u8>), FrameError> {
        Ok(match self {
            Self::Command(arguments) if arguments.is_empty() => {
                return Err(FrameError::EmptyCommand);
            }
            Self::Command(arguments) if arguments.iter().any(|word| word.contains(&0)) => {
                return Err(FrameError::NulInArgument);
            }
            Self::Command(arguments) => (COMMAND, arguments.join(&0)),
            Self::Stdin(bytes) => (STDIN, bytes.clone()),
            Self::StdinEnd => (STDIN_END, Vec::new()),
            Self::Stdout(bytes) => (STDOUT, bytes.clone()),
            Self::Stderr(bytes) => (STDERR, bytes.clone()),
            Self::Exited(status) => (EXITED, status.to_be_bytes().to_vec()),
            Self::Failed(reason) => (FAILED, reason.clone().into_bytes()),
        })
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, FrameError> {
        let malformed = || FrameError::MalformedPayload { kind };
        Ok(match kind {
            COMMAND => Self::Command(
                payload
                    .split(|byte| *byte == 0)
                    .map(<[u8]>::to_vec)
                    .collect(),
            ),
            STDIN => Self::Stdin(payload),
            STDIN_END if payload.is_empty() => Self::StdinEnd,
            STDIN_END => return Err(malformed()),
            STDOUT => Self::Stdout(payload),
            STDERR => Self::Stderr(payload),
            EXITED => {
                let status = payload.try_into().map_err(|_| malformed())?;
                Self::Exited(i32::from_be_bytes(status))
            }
            FAILED => Self::Failed(String::from_utf8(payload).map_err(|_| malformed())?),
            unknown => return Err(FrameError::UnknownKind(unknown)),
        })
    }
}

fn read_first_byte(reader: &mut impl Read, header: &mut [u8; HEADER_LEN]) -> io::Result<usize> {
    loop {
        match reader.read(&mut header[..1]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn read_rest(reader: &mut impl Read, buffer: &mut [u8]) -> Result<(), FrameError> {
    reader
        .read_exact(buffer)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => FrameError::Truncated,
            _ => FrameError::Connection(error),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..300)
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let word = prop::collection::vec(1..=u8::MAX, 0..20);
        prop_oneof![
            prop::collection::vec(word, 1..8).prop_map(Frame::Command),
            bytes().prop_map(Frame::Stdin),
            Just(Frame::StdinEnd),
            bytes().prop_map(Frame::Stdout),
            bytes().prop_map(Frame::Stderr),
            any::<i32>().prop_map(Frame::Exited),
            any::<String>().prop_map(Frame::Failed),
        ]
    }

    fn encoded(frame: &Frame) -> Vec<u8> {
        let mut buffer = Vec::new();
        frame.write_to(&mut buffer).unwrap();
        buffer
    }

    proptest! {
        #[test]
        fn frames_written_are_read_back(frames in prop::collection::vec(any_frame(), 0..5)) {
            let buffer: Vec<u8> = frames.iter().flat_map(encoded).collect();
            let mut rest = buffer.as_slice();
            for frame in frames {
                prop_assert_eq!(Frame::read_from(&mut rest).unwrap(), Some(frame));
            }
            prop_assert_eq!(Frame::read_from(&mut rest).unwrap(), None);
        }

        #[test]
        fn frame_cut_short_is_truncated(frame in any_frame(), cut in any::<prop::sample::Index>()) {
            let buffer = encoded(&frame);
            let mut short = &buffer[..=cut.index(buffer.len() - 1)];
            prop_assert!(matches!(Frame::read_from(&mut short), Err(FrameError::Truncated)));
        }

        #[test]
        fn any_bytes_are_read_without_panic(input in bytes()) {
            let mut rest = input.as_slice();
            while let Ok(Some(_)) = Frame::read_from(&mut rest) {}
        }
    }

    #[test]
    fn command_is_nul_separated() {
        let frame = Frame::Command(vec![b"ls".to_vec(), Vec::new(), b"-l".to_vec()]);
        assert_eq!(encoded(&frame), b"\x01\0\0\0\x06ls\0\0-l");
    }

    #[test]
    fn payload_over_the_limit_is_refused_both_ways() {
        let length = MAX_PAYLOAD + 1;
        let written = Frame::Stdout(vec![0; length]).write_to(&mut Vec::new());
        assert!(matches!(written, Err(FrameError::TooLong { length: l }) if l == length));
        let read = Frame::read_from(&mut b"\x04\x00\x01\x00\x01".as_slice());
        assert!(matches!(read, Err(FrameError::TooLong { length: l }) if l == length));
    }

    #[test]
    fn unknown_kind_is_refused() {
        let read = Frame::read_from(&mut b"\x09\0\0\0\0".as_slice());
        assert!(matches!(read, Err(FrameError::UnknownKind(9))));
    }

    #[test]
    fn malformed_payloads_are_refused() {
        for bytes in [
            b"\x06\0\0\0\x01x",
            b"\x03\0\0\0\x01x",
            b"\x07\0\0\0\x01\xff",
        ] {
            let read = Frame::read_from(&mut bytes.as_slice());
            assert!(matches!(read, Err(FrameError::MalformedPayload { kind }) if kind == bytes[0]));
        }
    }

    #[test]
    fn command_that_cannot_be_encoded_is_refused() {
        let empty = Frame::Command(Vec::new()).write_to(&mut Vec::new());
        assert!(matches!(empty, Err(FrameError::EmptyCommand)));
        let nul = Frame::Command(vec![b"a\0b".to_vec()]).write_to(&mut Vec::new());
        assert!(matches!(nul, Err(FrameError::NulInArgument)));
    }
}
