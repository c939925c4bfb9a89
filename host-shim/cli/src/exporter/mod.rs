//! HTTP server of the metrics: `GET /metrics` and nothing else, one request for each connection.
//!
//! Prometheus sends a request of a few lines and reads the reply, so a server with a parser for all of HTTP
//! would only add code that strangers reach. One thread serves one connection after another; a client
//! that is slow or silent is left after five seconds, and the kernel queues the others.

mod request;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use patchbay_types::failure::Failure;

use crate::output::metrics::MetricsFormat;
use request::{Parsed, Refusal, parse};

/// Maximum size of a request.
const MAX_REQUEST: usize = 8 << 10;
/// Time for a client to send its request, and again to read the reply.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failure to accept, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process ends. `metrics` reads and formats the values.
///
/// # Errors
/// An address that can't be listened on.
pub(crate) fn serve(
    address: SocketAddr,
    metrics: impl Fn(MetricsFormat) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let failed = |error: &io::Error| {
        Failure::of_io(format!("could not listen on {address}"), error).with_field("--listen")
    };
    let listener = TcpListener::bind(address).map_err(|error| failed(&error))?;
    let bound = listener.local_addr().map_err(|error| failed(&error))?;
    tracing::warn!("metrics are served at http://{bound}/metrics");
    loop {
        let served = listener
            .accept()
            .and_then(|(client, _)| handle(client, &metrics));
        if let Err(error) = served {
            tracing::debug!("a client was left: {error}");
            thread::sleep(PAUSE);
        }
    }
}

fn handle(
    mut client: TcpStream,
    metrics: &impl Fn(MetricsFormat) -> Result<String, Failure>,
) -> io::Result<()> {
    let request = read_request(&mut client)?;
    let reply = match parse(&request) {
        Ok(Parsed { format }) => match metrics(format) {
            Ok(text) => reply("200 OK", format.content_type(), &text),
            Err(failure) => {
                tracing::warn!("the sandboxes could not be read: {}", failure.line());
                let text = "the sandboxes could not be read\n";
                reply("500 Internal Server Error", "text/plain", text)
            }
        },
        Err(refusal) => reply(refusal.status(), "text/plain", refusal.text()),
    };
    write_all(&mut client, &reply)?;
    client.shutdown(std::net::Shutdown::Write)
}

/// Reads until the empty line after the headers, within the limits of time and size.
fn read_request(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + TIMEOUT;
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") && request.len() < MAX_REQUEST {
        client.set_read_timeout(Some(left(deadline)?))?;
        let length = client.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        request.extend_from_slice(&chunk[..length]);
    }
    Ok(request)
}

fn write_all(client: &mut TcpStream, mut reply: &[u8]) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while !reply.is_empty() {
        client.set_write_timeout(Some(left(deadline)?))?;
        let length = client.write(reply)?;
        reply = &reply[length..];
    }
    Ok(())
}

/// Returns the time until a deadline.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn reply(status: &str, kind: &str, text: &str) -> Vec<u8> {
    let length = text.len();
    let allow = if status.starts_with("405") {
        "Allow: GET\r\n"
    } else {
        ""
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n{text}"
    )
    .into_bytes()
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Self::Malformed => "400 Bad Request",
            Self::Path => "404 Not Found",
            Self::Method => "405 Method Not Allowed",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Malformed => "not a request of HTTP with at most 8 KiB\n",
            Self::Path => "the only path is /metrics\n",
            Self::Method => "the only method is GET\n",
        }
    }
}
