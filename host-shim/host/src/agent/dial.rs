//! Connecting to the port of an agent.

use std::io;

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};
use tokio::net::UnixStream;
use tokio_vsock::VsockStream;
use ttrpc::r#async::transport::Socket;

use super::HANDSHAKE_TIMEOUT;
use super::byte_budget::{ByteBudget, LimitedStream};
use crate::vsock_stream::{self, Stream};

/// Connects to the first port on which the guest listens, among those that the endpoint means: nothing else
/// than a refusal shows that the agent is of an earlier release.
///
/// # Errors
/// The error of the first port.
pub(super) fn connect(endpoint: &Endpoint) -> io::Result<Stream> {
    let connect = |at: &Endpoint| vsock_stream::connect(at, HANDSHAKE_TIMEOUT);
    let mut attempts = endpoint.attempts().into_iter();
    let first = attempts
        .next()
        .map_or_else(|| connect(endpoint), |at| connect(&at));
    attempts.fold(first, |result, earlier| match result {
        Err(error) if is_refused(&error) => connect(&earlier).map_err(|_| error),
        result => result,
    })
}

/// Returns whether nothing listens on the port; vsock reports it as a reset.
fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

/// Advice for a guest that accepts no connection to the agent's port.
const START_AGENT: &str =
    "start patchbay-agent in the guest (docs/kata.md shows how to install it)";

pub(super) fn unreachable(endpoint: &Endpoint, error: &io::Error) -> Failure {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, NotConnected,
        TimedOut,
    };
    let kind = match error.kind() {
        TimedOut => Kind::Timeout,
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable => {
            Kind::NotFound
        }
        // The dead proxy of hybrid vsock has no errno.
        _ => error
            .raw_os_error()
            .map_or(Kind::NotFound, Kind::from_errno),
    };
    let first = endpoint.attempts().into_iter().next();
    let at = first.as_ref().unwrap_or(endpoint);
    let message = format!("the sandbox's agent does not answer at {at}");
    let failure = Failure::new(kind, message).with_cause(error.to_string());
    match (kind, error.kind()) {
        // It has its own advice.
        (_, NotConnected) => failure,
        (Kind::NotFound, _) => failure.with_cause(START_AGENT),
        _ => failure,
    }
}

pub(super) fn socket(stream: Stream, budget: ByteBudget) -> io::Result<Socket> {
    Ok(match stream {
        Stream::Unix(stream) => {
            stream.set_nonblocking(true)?;
            let stream = UnixStream::from_std(stream)?;
            Socket::new(LimitedStream { stream, budget })
        }
        Stream::Vsock(stream) => {
            let stream = VsockStream::new(stream)?;
            Socket::new(LimitedStream { stream, budget })
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use nix::errno::Errno;

    use super::*;

    /// A process of the guest has port 1061, and nothing has port 961.
    #[test]
    fn connect_to_the_present_port_is_not_answered_at_the_earlier_one() {
        for (port, asked, is_answered) in [
            (961, &["CONNECT 961\n"][..], false),
            (1061, &["CONNECT 961\n", "CONNECT 1061\n"], true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("vsock.sock");
            let listener = UnixListener::bind(&path).unwrap();
            let proxy = thread::spawn(move || {
                let mut lines = Vec::new();
                for stream in listener.incoming().flatten() {
                    let mut line = String::new();
                    BufReader::new(&stream).read_line(&mut line).unwrap();
                    match line.as_str() {
                        "CONNECT 1061\n" => (&stream).write_all(b"OK 1\n").unwrap(),
                        "" => return lines,
                        _ => {}
                    }
                    lines.push(line);
                }
                lines
            });
            let stream = connect(&Endpoint::Hybrid {
                path: path.clone(),
                port,
            });
            assert_eq!(stream.is_ok(), is_answered);
            // Ends the proxy.
            drop(std::os::unix::net::UnixStream::connect(&path).unwrap());
            assert_eq!(proxy.join().unwrap(), asked);
        }
    }

    #[test]
    fn only_a_missing_agent_is_to_be_started() {
        let endpoint = "unix:///agent.sock".parse().unwrap();
        for (errno, kind, has_advice) in [
            (Errno::ECONNREFUSED, Kind::NotFound, true),
            (Errno::ECONNRESET, Kind::NotFound, true),
            (Errno::ENOENT, Kind::NotFound, true),
            (Errno::ENODEV, Kind::NotFound, true),
            (Errno::EACCES, Kind::Denied, false),
            (Errno::ETIMEDOUT, Kind::Timeout, false),
            (Errno::ENOMEM, Kind::Kernel, false),
            (Errno::EINTR, Kind::Kernel, false),
            (Errno::EMFILE, Kind::Kernel, false),
        ] {
            let failure = unreachable(&endpoint, &errno.into());
            assert_eq!(failure.kind(), kind, "{errno}");
            let advises = failure.chain().any(|cause| cause == START_AGENT);
            assert_eq!(advises, has_advice, "{errno}");
        }
        let dead = io::Error::new(io::ErrorKind::NotConnected, "the proxy has ended");
        let failure = unreachable(&endpoint, &dead);
        assert_eq!(failure.kind(), Kind::NotFound);
        assert_eq!(failure.chain().count(), 1);
    }
}
