//! Connections to the model of QEMU: its monitor serves one client at a time.

use std::collections::VecDeque;
use std::io::{IoSliceMut, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

/// Monitor of the machine.
#[derive(Debug)]
pub(crate) struct Monitor {
    listener: UnixListener,
    client: Option<Client>,
    /// Number of clients so far.
    clients: u64,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    has_ended: bool,
}

/// Request of the client.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: Value,
    pub(crate) command: String,
    pub(crate) arguments: Value,
    /// Descriptor that came with the request.
    pub(crate) fd: Option<OwnedFd>,
}

impl Request {
    /// Returns a text among the arguments.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.arguments[key].as_str().unwrap_or_default()
    }
}

impl Monitor {
    pub(crate) fn bind(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self {
            listener,
            client: None,
            clients: 0,
        }
    }

    /// Returns the number of the present client.
    pub(crate) fn client(&self) -> u64 {
        self.clients
    }

    /// Accepts and reads without waiting.
    pub(crate) fn pump(&mut self) {
        loop {
            if let Some(client) = &mut self.client {
                client.read();
                if !client.has_ended || client.input.contains(&b'\n') {
                    return;
                }
            }
            let Ok((stream, _)) = self.listener.accept() else {
                self.client = None;
                return;
            };
            stream.set_nonblocking(true).unwrap();
            self.clients += 1;
            self.client = Some(Client {
                stream,
                input: Vec::new(),
                fds: VecDeque::new(),
                has_ended: false,
            });
            let version = json!({"qemu": {"major": 10, "minor": 0, "micro": 2}});
            self.send(&json!({"QMP": {"version": version, "capabilities": ["oob"]}}));
        }
    }

    /// Returns whether the client has sent a request.
    pub(crate) fn has_request(&self) -> bool {
        let client = self.client.as_ref();
        client.is_some_and(|client| client.input.contains(&b'\n'))
    }

    /// Takes the oldest request.
    pub(crate) fn take(&mut self) -> Request {
        let client = self.client.as_mut().unwrap();
        let end = client.input.iter().position(|byte| *byte == b'\n').unwrap();
        let line: Vec<u8> = client.input.drain(..=end).collect();
        let mut request: Value = serde_json::from_slice(&line).unwrap();
        let key = ["execute", "exec-oob"]
            .iter()
            .find(|key| request.get(key).is_some());
        let command = request[*key.unwrap()].as_str().unwrap().to_owned();
        let takes_fd = command == "getfd";
        Request {
            id: request["id"].take(),
            arguments: request["arguments"].take(),
            fd: takes_fd.then(|| client.fds.pop_front()).flatten(),
            command,
        }
    }

    /// Sends a message, unless the client is gone.
    pub(crate) fn send(&mut self, message: &Value) {
        if let Some(client) = &mut self.client {
            let _ = client.stream.write_all(format!("{message}\n").as_bytes());
        }
    }
}

impl Client {
    fn read(&mut self) {
        loop {
            let mut bytes = [0; 4096];
            let mut space = [const { std::mem::MaybeUninit::uninit() }; 256];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let parts = &mut [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = match recvmsg(&self.stream, parts, &mut ancillary, flags) {
                Ok(received) => received.bytes,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => 0,
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    self.fds.extend(fds);
                }
            }
            if received == 0 {
                self.has_ended = true;
                return;
            }
            self.input.extend_from_slice(&bytes[..received]);
        }
    }
}
