//! A connection runs one command and relays its input, output and exit status.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{ChildStdin, Command};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use patchbay_init::frame::{Frame, FrameError};
use vsock::VsockStream;

use crate::child::{SharedChild, Streams};

/// Bytes that a writable pipe accepts without blocking: `PIPE_BUF`.
const STDIN_CHUNK_BYTES: usize = 4096;

const OUTPUT_CHUNK_BYTES: usize = 32 * 1024;

/// Error that ends a session early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The first frame is not a command.
    #[error("the session does not start with a command")]
    NoCommand,
    /// A frame can't be read or sent.
    #[error("the session broke off: {0}")]
    Frame(#[from] FrameError),
    /// Waiting for the command failed.
    #[error("could not wait for a command: {0}")]
    Wait(#[source] io::Error),
}

/// Serves a connection to its end.
pub(crate) fn serve(stream: &VsockStream) -> Result<(), SessionError> {
    let arguments = match Frame::read_from(&mut &*stream)? {
        Some(Frame::Command(arguments)) => arguments,
        None => return Ok(()),
        Some(_) => return Err(SessionError::NoCommand),
    };
    let out = Mutex::new(stream);
    let end = match start(&arguments) {
        Ok((child, streams)) => Frame::Exited(relay(stream, &out, &child, streams)?),
        Err(error) => {
            let program = arguments.first().map_or(&[][..], Vec::as_slice);
            let program = String::from_utf8_lossy(program);
            let message = format!("the guest could not start {program}: {error}\n");
            send(&out, &Frame::Stderr(message.into_bytes()))?;
            Frame::Exited(status_of(&error))
        }
    };
    send(&out, &end)?;
    // Closing before the host does could discard data that it has not read yet.
    while Frame::read_from(&mut &*stream)?.is_some() {}
    Ok(())
}

/// Returns the exit status of a shell for a program that could not be started.
fn status_of(error: &io::Error) -> i32 {
    match error.kind() {
        io::ErrorKind::NotFound => 127,
        _ => 126,
    }
}

fn start(arguments: &[Vec<u8>]) -> io::Result<(SharedChild, Streams)> {
    let (program, rest) = arguments
        .split_first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(OsStr::from_bytes(program));
    command.args(rest.iter().map(|word| OsStr::from_bytes(word)));
    SharedChild::start(&mut command)
}

/// Relays input and output until the command has ended and its output is sent.
fn relay(
    stream: &VsockStream,
    out: &Mutex<&VsockStream>,
    child: &SharedChild,
    streams: Streams,
) -> Result<i32, SessionError> {
    let Streams {
        stdin,
        stdout,
        stderr,
    } = streams;
    let (ended, end_of_session) = io::pipe().map_err(SessionError::Wait)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            if feed(stream, stdin, &ended).is_err() {
                child.kill();
            }
        });
        scope.spawn(|| pump(out, stdout, Frame::Stdout));
        scope.spawn(|| pump(out, stderr, Frame::Stderr));
        let status = child.wait();
        drop(end_of_session);
        status.map_err(SessionError::Wait)
    })
}

/// The host has closed the connection or broken the protocol.
struct HostLost;

/// Relays the input and watches for the loss of the host until the command has ended.
fn feed(stream: &VsockStream, stdin: ChildStdin, ended: &impl AsFd) -> Result<(), HostLost> {
    let mut stdin = Some(stdin);
    loop {
        let mut fds = [
            PollFd::new(stream.as_fd(), PollFlags::POLLIN | PEER_GONE),
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        ];
        wait(&mut fds);
        if hung_up(&fds[1]) {
            return Ok(());
        }
        if hung_up(&fds[0]) {
            return Err(HostLost);
        }
        match Frame::read_from(&mut &*stream) {
            Ok(Some(Frame::Stdin(bytes))) => {
                let Some(pipe) = &mut stdin else { continue };
                // The rest of the input is discarded once the command has closed its end.
                if write_all(pipe, &bytes, stream)?.is_err() {
                    stdin = None;
                }
            }
            Ok(Some(Frame::StdinEnd)) => stdin = None,
            Ok(_) | Err(_) => return Err(HostLost),
        }
    }
}

/// Writes to the command; the inner error is that of its pipe. Ends early if the host is lost.
fn write_all(
    pipe: &mut ChildStdin,
    bytes: &[u8],
    stream: &VsockStream,
) -> Result<io::Result<()>, HostLost> {
    for chunk in bytes.chunks(STDIN_CHUNK_BYTES) {
        let mut fds = [
            PollFd::new(pipe.as_fd(), PollFlags::POLLOUT),
            PollFd::new(stream.as_fd(), PEER_GONE),
        ];
        wait(&mut fds);
        if hung_up(&fds[1]) {
            return Err(HostLost);
        }
        if let Err(error) = pipe.write_all(chunk) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// `POLLRDHUP`, which nix does not name. The host never half-closes, so it means that the host is gone;
/// a vsock reports `POLLHUP` only after both sides have closed.
const PEER_GONE: PollFlags = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);

fn wait(fds: &mut [PollFd<'_>]) {
    while poll(fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
}

fn hung_up(fd: &PollFd<'_>) -> bool {
    // nix returns `None` for flags without a name, which here can only be `PEER_GONE`.
    fd.revents()
        .is_none_or(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

fn pump(out: &Mutex<&VsockStream>, mut source: impl Read, frame: fn(Vec<u8>) -> Frame) {
    let mut buffer = vec![0; OUTPUT_CHUNK_BYTES];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return,
            // Dropping the source ends the command by SIGPIPE at its next write.
            Ok(length) if send(out, &frame(buffer[..length].to_vec())).is_err() => return,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
            Ok(_) | Err(_) => {}
        }
    }
}

fn send(out: &Mutex<&VsockStream>, frame: &Frame) -> Result<(), FrameError> {
    let mut stream: &VsockStream = *out.lock().unwrap_or_else(PoisonError::into_inner);
    frame.write_to(&mut stream)
}
