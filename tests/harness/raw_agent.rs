//! An agent that says whatever a test wants, byte by byte: what a guest that was taken over may say.

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

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRequest {
    /// Name of the method.
    pub method: String,
    /// Number of the stream, which answers repeat.
    pub stream: u32,
}

/// What goes out for a request, one write each; the connection is closed at the end of them.
pub type RawReply = Box<dyn Iterator<Item = Vec<u8>>>;

/// Serves at this path until the process ends. `lie` may leave a request to an honest greeting by
/// `None`, which is no answer to anything else.
pub fn serve_raw(
    path: &Path,
    lie: impl Fn(&RawRequest) -> Option<RawReply> + Send + Sync + 'static,
) {
    let listener = UnixListener::bind(path).unwrap();
    let lie = Arc::new(lie);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let lie = Arc::clone(&lie);
            // Who is hung up on has got what the test is about.
            thread::spawn(move || session(stream.unwrap(), lie.as_ref()));
        }
    });
}

fn session(
    mut stream: UnixStream,
    lie: &impl Fn(&RawRequest) -> Option<RawReply>,
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
        match lie(&request) {
            Some(lies) => {
                for bytes in lies {
                    stream.write_all(&bytes)?;
                }
                return Ok(());
            }
            None if request.method == "Hello" => {
                stream.write_all(&answer(&request, &greeting()))?
            }
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

/// The method of a request: service and method are the first fields of its message.
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

/// A frame of ttrpc that says to have this length.
pub fn frame(length: u32, stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10 + payload.len());
    bytes.extend(length.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(payload);
    bytes
}

fn honest_frame(stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    frame(u32::try_from(payload.len()).unwrap(), stream, kind, payload)
}

/// A whole answer.
pub fn answer<M: Codec<E: std::fmt::Debug>>(request: &RawRequest, message: &M) -> Vec<u8> {
    answer_bytes(request, message.encode().unwrap())
}

/// The same with bytes for a message.
pub fn answer_bytes(request: &RawRequest, payload: Vec<u8>) -> Vec<u8> {
    let response = Response {
        payload,
        ..Response::default()
    };
    honest_frame(
        request.stream,
        MESSAGE_TYPE_RESPONSE,
        &response.encode().unwrap(),
    )
}

/// A refusal.
pub fn refusal(request: &RawRequest, error: ttrpc::Error) -> Vec<u8> {
    let ttrpc::Error::RpcStatus(status) = error else {
        panic!("{error}");
    };
    let mut response = Response::default();
    response.set_status(status);
    honest_frame(
        request.stream,
        MESSAGE_TYPE_RESPONSE,
        &response.encode().unwrap(),
    )
}

/// One message of a stream.
pub fn message<M: Codec<E: std::fmt::Debug>>(request: &RawRequest, message: &M) -> Vec<u8> {
    honest_frame(
        request.stream,
        MESSAGE_TYPE_DATA,
        &message.encode().unwrap(),
    )
}

/// The end of a stream.
pub fn end(request: &RawRequest) -> Vec<u8> {
    let mut bytes = frame(0, request.stream, MESSAGE_TYPE_DATA, &[]);
    bytes[9] = FLAG_REMOTE_CLOSED | FLAG_NO_DATA;
    bytes
}
