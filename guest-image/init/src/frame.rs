//! Protocol between `patchbay-sandbox exec` and `patchbay-execd`. A frame is its kind (one byte), the
//! payload's length (four bytes, big-endian) and the payload.
//!
//! The host sends one [`Frame::Command`], any number of [`Frame::Stdin`] and one [`Frame::StdinEnd`].
//! The guest sends output and, at last, [`Frame::Exited`]. The end of input is a frame rather than a half-closed socket, so a closed socket means a lost peer.

use std::io::{self, Read, Write};

/// Maximum length of a payload.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

const HEADER_LEN: usize = 5;

/// Message between the host and the command server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Program to start and its arguments.
    Command(Vec<Vec<u8>>),
    /// Data for the program's standard input.
    Stdin(Vec<u8>),
    /// End of the standard input.
    StdinEnd,
    /// Data from the program's standard output.
    Stdout(Vec<u8>),
    /// Data from the program's standard error.
    Stderr(Vec<u8>),
    /// Exit status of the program, 128 + the signal that killed it, or, as of a shell, 127 if there is no
    /// such program and 126 if it could not be started.
    Exited(i32),
}

/// Error of reading or writing a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The kind is unknown.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The payload is longer than [`MAX_PAYLOAD_BYTES`].
    #[error("frame of {0} bytes, the limit is {MAX_PAYLOAD_BYTES}")]
    TooLong(usize),
    /// The connection ended within a frame.
    #[error("the connection ended within a frame")]
    Truncated,
    /// The payload does not match the kind.
    #[error("malformed payload in a frame of kind {0}")]
    MalformedPayload(u8),
    /// The command has no program.
    #[error("empty command")]
    EmptyCommand,
    /// NUL separates arguments, so they can't contain it.
    #[error("an argument contains a NUL byte")]
    NulInArgument,
    /// Reading or writing failed.
    #[error("the connection failed")]
    Connection(#[from] io::Error),
}

const COMMAND: u8 = 1;
const STDIN: u8 = 2;
const STDIN_END: u8 = 3;
const STDOUT: u8 = 4;
const STDERR: u8 = 5;
const EXITED: u8 = 6;

impl Frame {
    /// Writes the frame by one call of `write_all`, so that a lock around it keeps frames whole.
    pub fn write_to(&self, writer: &mut impl Write) -> Result<(), FrameError> {
        let (kind, payload) = self.encode()?;
        let length = u32::try_from(payload.len()).ok();
        let length = length
            .filter(|_| payload.len() <= MAX_PAYLOAD_BYTES)
            .ok_or(FrameError::TooLong(payload.len()))?;
        let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&payload);
        writer.write_all(&bytes)?;
        writer.flush()?;
        Ok(())
    }

    /// Reads a frame; `None` if the connection ended between frames.
    pub fn read_from(reader: &mut impl Read) -> Result<Option<Self>, FrameError> {
        let mut header = [0; HEADER_LEN];
        match reader.read_exact(&mut header[..1]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        read_rest(reader, &mut header[1..])?;
        let [kind, length @ ..] = header;
        if !(COMMAND..=EXITED).contains(&kind) {
            return Err(FrameError::UnknownKind(kind));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD_BYTES {
            return Err(FrameError::TooLong(length));
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
        })
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, FrameError> {
        let malformed = || FrameError::MalformedPayload(kind);
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
            unknown => return Err(FrameError::UnknownKind(unknown)),
        })
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
        ]
    }

    fn encoded(frame: &Frame) -> Vec<u8> {
        let mut buffer = Vec::new();
        frame.write_to(&mut buffer).unwrap();
        buffer
    }

    proptest! {
        #[test]
        fn frames_round_trip(frames in prop::collection::vec(any_frame(), 0..5)) {
            let buffer: Vec<u8> = frames.iter().flat_map(encoded).collect();
            let mut rest = buffer.as_slice();
            for frame in frames {
                prop_assert_eq!(Frame::read_from(&mut rest).unwrap(), Some(frame));
            }
            prop_assert_eq!(Frame::read_from(&mut rest).unwrap(), None);
        }

        #[test]
        fn frame_prefix_is_truncated(frame in any_frame(), cut in any::<prop::sample::Index>()) {
            let buffer = encoded(&frame);
            let mut short = &buffer[..=cut.index(buffer.len() - 1)];
            prop_assert!(matches!(Frame::read_from(&mut short), Err(FrameError::Truncated)));
        }

        #[test]
        fn read_arbitrary_bytes_does_not_panic(input in bytes()) {
            let mut rest = input.as_slice();
            while let Ok(Some(_)) = Frame::read_from(&mut rest) {}
        }
    }

    #[test]
    fn command_arguments_are_nul_separated() {
        let frame = Frame::Command(vec![b"ls".to_vec(), Vec::new(), b"-l".to_vec()]);
        assert_eq!(encoded(&frame), b"\x01\0\0\0\x06ls\0\0-l");
    }

    #[test]
    fn oversized_payload_fails_in_both_directions() {
        let length = MAX_PAYLOAD_BYTES + 1;
        let written = Frame::Stdout(vec![0; length]).write_to(&mut Vec::new());
        assert!(matches!(written, Err(FrameError::TooLong(l)) if l == length));
        let read = Frame::read_from(&mut b"\x04\x00\x01\x00\x01".as_slice());
        assert!(matches!(read, Err(FrameError::TooLong(l)) if l == length));
    }

    #[test]
    fn read_unknown_kind_fails() {
        let read = Frame::read_from(&mut b"\x09\0\0\0\0".as_slice());
        assert!(matches!(read, Err(FrameError::UnknownKind(9))));
    }

    #[test]
    fn read_malformed_payload_fails() {
        for bytes in [b"\x06\0\0\0\x01x", b"\x03\0\0\0\x01x"] {
            let read = Frame::read_from(&mut bytes.as_slice());
            assert!(matches!(read, Err(FrameError::MalformedPayload(kind)) if kind == bytes[0]));
        }
    }

    #[test]
    fn write_empty_or_nul_command_fails() {
        let empty = Frame::Command(Vec::new()).write_to(&mut Vec::new());
        assert!(matches!(empty, Err(FrameError::EmptyCommand)));
        let nul = Frame::Command(vec![b"a\0b".to_vec()]).write_to(&mut Vec::new());
        assert!(matches!(nul, Err(FrameError::NulInArgument)));
    }
}
