//! Connections to the model of the agent, as frames of ttrpc.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use patchbay_tests::raw_agent::{RawRequest, error_reply, reply_bytes};
use patchbay_types::failure::Failure;
use patchbay_wire::status;
use ttrpc::proto::{Codec as _, Request};

/// Port of the agent.
#[derive(Debug)]
pub(crate) struct Port {
    listener: UnixListener,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    /// `None` for one that has ended; calls that were sent before are carried out.
    stream: Option<UnixStream>,
    input: Vec<u8>,
}

/// Call of a client.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Caller,
    pub(crate) method: String,
    pub(crate) payload: Vec<u8>,
}

/// Receiver of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) connection: usize,
    request: RawRequest,
}

/// Length of the header of a frame: length of the message, stream, kind and flags.
const HEADER: usize = 10;

impl Port {
    pub(crate) fn bind(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self {
            listener,
            connections: Vec::new(),
        }
    }

    /// Accepts and reads without waiting.
    pub(crate) fn pump(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            let (stream, input) = (Some(stream), Vec::new());
            self.connections.push(Connection { stream, input });
        }
        self.connections.iter_mut().for_each(Connection::read);
    }

    /// Lists the connections with a complete call.
    pub(crate) fn callers(&self) -> Vec<usize> {
        let connections = self.connections.iter().enumerate();
        let complete = connections.filter(|(_, connection)| connection.length().is_some());
        complete.map(|(index, _)| index).collect()
    }

    /// Takes the oldest call of a connection.
    pub(crate) fn take(&mut self, connection: usize) -> Call {
        let open = &mut self.connections[connection];
        let length = open.length().unwrap();
        let frame: Vec<u8> = open.input.drain(..length).collect();
        let stream = u32::from_be_bytes(frame[4..8].try_into().unwrap());
        let request = Request::decode(&frame[HEADER..]).unwrap();
        let method = request.method.clone();
        Call {
            caller: Caller {
                connection,
                request: RawRequest { method, stream },
            },
            method: request.method,
            payload: request.payload,
        }
    }

    /// Replies to a call, unless the connection has ended.
    pub(crate) fn reply(&mut self, to: &Caller, result: Result<Vec<u8>, Failure>) {
        let bytes = match result {
            Ok(payload) => reply_bytes(&to.request, payload),
            Err(failure) => error_reply(&to.request, status::from_failure(&failure)),
        };
        if let Some(stream) = &mut self.connections[to.connection].stream {
            let _ = stream.write_all(&bytes);
        }
    }

    /// Closes a connection.
    pub(crate) fn hang_up(&mut self, connection: usize) {
        self.connections[connection].stream = None;
    }
}

impl Connection {
    /// Reads what there is.
    fn read(&mut self) {
        let mut bytes = [0; 4096];
        while let Some(stream) = &mut self.stream {
            match stream.read(&mut bytes) {
                Ok(length) if length > 0 => self.input.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => self.stream = None,
            }
        }
    }

    /// Returns the length of the first frame, if it is complete.
    fn length(&self) -> Option<usize> {
        let header: [u8; 4] = self.input.get(..4)?.try_into().unwrap();
        let length = HEADER + usize::try_from(u32::from_be_bytes(header)).unwrap();
        (self.input.len() >= length).then_some(length)
    }
}
