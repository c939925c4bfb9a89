//! Model of a vhost-user backend, as far as commands check it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Backend that listens on a socket.
#[derive(Debug)]
pub(crate) struct Backend {
    listener: UnixListener,
    /// `None` for a connection that has ended.
    connections: Vec<Option<Connection>>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
}

/// Length of a request without a payload: number, flags and length.
const REQUEST: usize = 12;
/// Replies to requests by their number: features, protocol features, and number of queue pairs.
const REPLIES: [(u32, u64); 3] = [(1, 1 << 30), (15, 1), (17, 4)];

impl Backend {
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
            let input = Vec::new();
            self.connections.push(Some(Connection { stream, input }));
        }
        for place in &mut self.connections {
            let mut bytes = [0; 256];
            if let Some(connection) = place
                && let Ok(length) = connection.stream.read(&mut bytes)
            {
                connection.input.extend_from_slice(&bytes[..length]);
                if length == 0 {
                    *place = None;
                }
            }
        }
    }

    /// Lists the connections with a request.
    pub(crate) fn clients(&self) -> Vec<usize> {
        let connections = self.connections.iter().enumerate();
        let connections = connections.filter(|(_, connection)| {
            let connection = connection.as_ref();
            connection.is_some_and(|connection| connection.input.len() >= REQUEST)
        });
        connections.map(|(index, _)| index).collect()
    }

    /// Takes the oldest request of a connection; returns its number.
    pub(crate) fn take(&mut self, index: usize) -> u32 {
        let connection = self.connections[index].as_mut().unwrap();
        let request: Vec<u8> = connection.input.drain(..REQUEST).collect();
        u32::from_ne_bytes(request[..4].try_into().unwrap())
    }

    /// Replies to a request.
    pub(crate) fn reply(&mut self, index: usize, request: u32) {
        let (_, value) = REPLIES.iter().find(|(own, _)| *own == request).unwrap();
        let (version, is_reply, length) = (1, 4, 8);
        let header = [request, version | is_reply, length].map(u32::to_ne_bytes);
        if let Some(connection) = &mut self.connections[index] {
            let message = [header.as_flattened(), &value.to_ne_bytes()].concat();
            let _ = connection.stream.write_all(&message);
        }
    }

    /// Closes a connection.
    pub(crate) fn hang_up(&mut self, index: usize) {
        self.connections[index] = None;
    }
}
