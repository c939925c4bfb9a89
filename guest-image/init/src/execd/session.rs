//! One connection: one command, its input, its output, its end.

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

/// A pipe that polls as writable takes at least this much (`PIPE_BUF`) without blocking.
const STDIN_STEP: usize = 4096;

const OUTPUT_STEP: usize = 32 * 1024;

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The first frame isn't a command.
    #[error("A session did not begin with a command.")]
    NoCommand,
    /// The host's frames can't be read, or ours can't be sent.
    #[error("A session broke: {0}")]
    Frame(#[from] FrameError),
    /// The end of the command can't be waited for.
    #[error("The end of a command can't be waited for: {0}")]
    Wait(#[source] io::Error),
}

/// Serves the connection to its end.
pub(crate) fn serve(stream: &VsockStream) -> Result<(), SessionError> {
    let arguments = match Frame::read_from(&mut &*stream)? {
        Some(Frame::Command(arguments)) => arguments,
        None => return Ok(()),
        Some(_) => return Err(SessionError::NoCommand),
    };
    let out = Mutex::new(stream);
    let end = match start(&arguments) {
        Ok((child, streams)) => Frame::Exited(attend(stream, &out, &child, streams)?),
        Err(error) => Frame::Failed(error.to_string()),
    };
    send(&out, &end)?;
    // The host closes when it has read the end: closing first could cut off what it hasn't read.
    while Frame::read_from(&mut &*stream)?.is_some() {}
    Ok(())
}

fn start(arguments: &[Vec<u8>]) -> io::Result<(SharedChild, Streams)> {
    let (program, rest) = arguments
        .split_first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(OsStr::from_bytes(program));
    command.args(rest.iter().map(|word| OsStr::from_bytes(word)));
    SharedChild::start(&mut command)
}

/// Carries input and output until the command has ended and its output is sent.
fn attend(
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
            if let Input::Cut = feed(stream, stdin, &ended) {
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

enum Input {
    /// The command has ended, or all its input has been passed on.
    Ended,
    /// The host went away or spoke nonsense.
    Cut,
}

/// Passes the input on and watches for the host's going away, until the command has ended.
fn feed(stream: &VsockStream, stdin: ChildStdin, ended: &impl AsFd) -> Input {
    let mut stdin = Some(stdin);
    loop {
        match wait_for_host(stream, ended) {
            Ready::Ended => return Input::Ended,
            Ready::HungUp => return Input::Cut,
            Ready::Readable => {}
        }
        match Frame::read_from(&mut &*stream) {
            Ok(Some(Frame::Stdin(bytes))) => {
                let Some(pipe) = &mut stdin else { continue };
                match write_all(pipe, &bytes, stream) {
                    Written::All => {}
                    // The command doesn't read on: what is left of its input goes nowhere.
                    Written::Closed => stdin = None,
                    Written::HungUp => return Input::Cut,
                }
            }
            Ok(Some(Frame::StdinEnd)) => stdin = None,
            Ok(_) | Err(_) => return Input::Cut,
        }
    }
}

enum Ready {
    Readable,
    HungUp,
    Ended,
}

fn wait_for_host(stream: &VsockStream, ended: &impl AsFd) -> Ready {
    let mut fds = [
        PollFd::new(stream.as_fd(), PollFlags::POLLIN | PEER_GONE),
        PollFd::new(ended.as_fd(), PollFlags::POLLIN),
    ];
    wait(&mut fds);
    if hung_up(&fds[1]) {
        Ready::Ended
    } else if hung_up(&fds[0]) {
        Ready::HungUp
    } else {
        Ready::Readable
    }
}

enum Written {
    All,
    Closed,
    HungUp,
}

/// Writes without blocking for longer than the host is there.
fn write_all(pipe: &mut ChildStdin, bytes: &[u8], stream: &VsockStream) -> Written {
    for step in bytes.chunks(STDIN_STEP) {
        let mut fds = [
            PollFd::new(pipe.as_fd(), PollFlags::POLLOUT),
            PollFd::new(stream.as_fd(), PEER_GONE),
        ];
        wait(&mut fds);
        if hung_up(&fds[1]) {
            return Written::HungUp;
        }
        if pipe.write_all(step).is_err() {
            return Written::Closed;
        }
    }
    Written::All
}

/// nix has no name for it. The host never half-closes, so it means that the host is gone; plain
/// `POLLHUP` comes for a vsock only when both sides have closed.
const PEER_GONE: PollFlags = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);

fn wait(fds: &mut [PollFd<'_>]) {
    while poll(fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
}

fn hung_up(fd: &PollFd<'_>) -> bool {
    // nix gives `None` for flags it has no name for, and `PEER_GONE` is the one that was asked for.
    fd.revents()
        .is_none_or(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

fn pump(out: &Mutex<&VsockStream>, mut source: impl Read, frame: fn(Vec<u8>) -> Frame) {
    let mut buffer = vec![0; OUTPUT_STEP];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return,
            // When the host is gone, dropping the source ends the command by its next write.
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
