//! Fake agent that sends any bytes, as a compromised guest can.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use patchbay_wire::API_VERSION;
use patchbay_wire::proto::agent::HelloReply;
use ttrpc::proto::{
    Codec, FLAG_NO_DATA, FLAG_REMOTE_CLOSED, MESSAGE_TYPE_DATA, MESSAGE_TYPE_RESPONSE, Response,
};

/// A ttrpc request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRequest {
    /// Name of the method.
    pub method: String,
    /// Stream ID, which replies repeat.
    pub stream: u32,
}

/// Reply to a request: the items are written one by one, then the connection is closed.
pub type RawReply = Box<dyn Iterator<Item = Vec<u8>>>;

/// Serves on a Unix socket at this path until the process exits. If `respond` returns `None`, a
/// handshake is answered correctly and any other request not at all.
pub fn serve_raw(
    path: &Path,
    respond: impl Fn(&RawRequest) -> Option<RawReply> + Send + Sync + 'static,
) {
    let listener = UnixListener::bind(path).unwrap();
    let respond = Arc::new(respond);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let respond = Arc::clone(&respond);
            // Writes fail once the command hangs up, which tests provoke.
            thread::spawn(move || session(stream.unwrap(), respond.as_ref()));
        }
    });
}

fn session(
    mut stream: UnixStream,
    respond: &impl Fn(&RawRequest) -> Option<RawReply>,
) -> std::io::Result<()> {
    loop {
        let mut header = [0; 10];
        stream.read_exact(&mut header)?;
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        let mut payload = vec![0; usize::try_from(number(&header[..4])).unwrap()];
        stream.read_exact(&mut payload)?;
        let Some(method) = method(&payload) else {
            continue;
        };
        let request = RawRequest {
            method,
            stream: number(&header[4..8]),
        };
        match respond(&request) {
            Some(reply) => {
                for bytes in reply {
                    stream.write_all(&bytes)?;
                }
                return Ok(());
            }
            None if request.method == "Hello" => stream.write_all(&reply(&request, &greeting()))?,
            None => {}
        }
    }
}

fn greeting() -> HelloReply {
    HelloReply {
        api_version: API_VERSION,
        ..HelloReply::default()
    }
}

/// Returns the method of a request. Service and method are the first fields of its message.
pub(crate) fn method(message: &[u8]) -> Option<String> {
    let mut fields = message;
    let mut texts = Vec::new();
    for tag in [0x0a, 0x12] {
        let [found, length, rest @ ..] = fields else {
            return None;
        };
        if *found != tag {
            return None;
        }
        let (text, after) = rest.split_at_checked(usize::from(*length))?;
        texts.push(String::from_utf8_lossy(text).into_owned());
        fields = after;
    }
    texts.pop()
}

/// Returns a ttrpc frame whose header claims this length.
pub fn frame(length: u32, stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10 + payload.len());
    bytes.extend(length.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(payload);
    bytes
}

fn valid_frame(stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    frame(u32::try_from(payload.len()).unwrap(), stream, kind, payload)
}

/// Returns a complete reply.
pub fn reply<M: Codec<E: std::fmt::Debug>>(request: &RawRequest, message: &M) -> Vec<u8> {
    reply_bytes(request, message.encode().unwrap())
}

/// Returns a complete reply with these bytes in place of its message.
pub fn reply_bytes(request: &RawRequest, payload: Vec<u8>) -> Vec<u8> {
    let response = Response {
        payload,
        ..Response::default()
    };
    valid_frame(
        request.stream,
        MESSAGE_TYPE_RESPONSE,
        &response.encode().unwrap(),
    )
}

/// Returns an error reply.
pub fn error_reply(request: &RawRequest, error: ttrpc::Error) -> Vec<u8> {
    let ttrpc::Error::RpcStatus(status) = error else {
        panic!("{error}");
    };
    let mut response = Response::default();
    response.set_status(status);
    valid_frame(
        request.stream,
        MESSAGE_TYPE_RESPONSE,
        &response.encode().unwrap(),
    )
}

/// Returns a message of a stream.
pub fn stream_message<M: Codec<E: std::fmt::Debug>>(request: &RawRequest, message: &M) -> Vec<u8> {
    valid_frame(
        request.stream,
        MESSAGE_TYPE_DATA,
        &message.encode().unwrap(),
    )
}

/// Returns the end of a stream.
pub fn stream_end(request: &RawRequest) -> Vec<u8> {
    let mut bytes = frame(0, request.stream, MESSAGE_TYPE_DATA, &[]);
    bytes[9] = FLAG_REMOTE_CLOSED | FLAG_NO_DATA;
    bytes
}
