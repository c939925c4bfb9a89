//! The host's end: a connection through a Unix socket with the handshake of hybrid vsock.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::str::FromStr;

use crate::error::Error;

/// What is done with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// The bytes come back.
    Echo,
    /// The bytes are answered by one.
    Send,
    /// The bytes come.
    Receive,
}

impl FromStr for Work {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "echo" => Ok(Self::Echo),
            "send" => Ok(Self::Send),
            "receive" => Ok(Self::Receive),
            _ => Err(Error::Usage),
        }
    }
}

impl Work {
    const ALL: [Self; 3] = [Self::Echo, Self::Send, Self::Receive];

    /// Its byte on the wire.
    fn byte(self) -> u8 {
        match self {
            Self::Echo => b'e',
            Self::Send => b's',
            Self::Receive => b'g',
        }
    }

    /// The work of this byte.
    pub(crate) fn of(byte: u8) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|work| work.byte() == byte);
        found.ok_or(Error::Protocol)
    }
}

/// Longest answer to the handshake.
const LONGEST: usize = 32;

/// Connects and works.
pub(crate) fn run(socket: &str, port: u32, work: Work, bytes: u32) -> Result<(), Error> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut answer = [0; LONGEST];
    // Nothing else comes before the request, so the line may be read in one go.
    let length = stream.read(&mut answer)?;
    if !answer[..length].starts_with(b"OK ") {
        return Err(Error::Protocol);
    }
    let mut request = vec![work.byte()];
    request.extend_from_slice(&bytes.to_le_bytes());
    let payload = usize::try_from(bytes).map_err(|_| Error::Usage)?;
    let back = match work {
        Work::Echo => {
            request.resize(request.len() + payload, 0);
            u64::from(bytes)
        }
        Work::Send => {
            request.resize(request.len() + payload, 0);
            1
        }
        Work::Receive => u64::from(bytes),
    };
    stream.write_all(&request)?;
    let received = io::copy(&mut (&stream).take(back), &mut io::sink())?;
    if received == back {
        Ok(())
    } else {
        Err(Error::Protocol)
    }
}
