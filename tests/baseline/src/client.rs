//! Client on the host: connects over hybrid vsock and exchanges bytes with [`serve`](crate::serve).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::str::FromStr;

use crate::error::Error;

/// Exchange on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// The server returns the bytes.
    Echo,
    /// The server replies with one byte.
    Send,
    /// The server sends the bytes.
    Receive,
}

impl FromStr for Exchange {
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

impl Exchange {
    const ALL: [Self; 3] = [Self::Echo, Self::Send, Self::Receive];

    /// Code in the request.
    fn byte(self) -> u8 {
        match self {
            Self::Echo => b'e',
            Self::Send => b's',
            Self::Receive => b'g',
        }
    }

    /// Returns the exchange with this code.
    pub(crate) fn from_byte(byte: u8) -> Result<Self, Error> {
        let exchange = Self::ALL
            .into_iter()
            .find(|exchange| exchange.byte() == byte);
        exchange.ok_or(Error::Protocol)
    }
}

/// Maximum length of the handshake's reply.
const MAX_REPLY_BYTES: usize = 32;

/// Connects to `port` in the guest and runs one exchange.
pub(crate) fn run(socket: &str, port: u32, exchange: Exchange, bytes: u32) -> Result<(), Error> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut reply = [0; MAX_REPLY_BYTES];
    // The server sends nothing before the request, so one read gets the line and no more.
    let length = stream.read(&mut reply)?;
    if !reply[..length].starts_with(b"OK ") {
        return Err(Error::Protocol);
    }
    let mut request = vec![exchange.byte()];
    request.extend_from_slice(&bytes.to_le_bytes());
    let payload = usize::try_from(bytes).map_err(|_| Error::Usage)?;
    let expected = match exchange {
        Exchange::Echo => {
            request.resize(request.len() + payload, 0);
            u64::from(bytes)
        }
        Exchange::Send => {
            request.resize(request.len() + payload, 0);
            1
        }
        Exchange::Receive => u64::from(bytes),
    };
    stream.write_all(&request)?;
    let received = io::copy(&mut (&stream).take(expected), &mut io::sink())?;
    if received == expected {
        Ok(())
    } else {
        Err(Error::Protocol)
    }
}
