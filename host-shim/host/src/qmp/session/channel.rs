//! The way to a monitor: its socket, or libvirt's own monitor of a domain.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::super::error::Error;
use super::super::virsh::Virsh;
use super::REPLY_TIMEOUT;

/// Carries lines to QEMU and back.
#[derive(Debug)]
pub(super) enum Channel {
    /// Socket of a monitor that serves this session alone.
    Socket(UnixStream),
    /// Monitor that libvirtd shares.
    Virsh(Virsh),
}

impl Channel {
    /// Sends requests, one per line.
    pub(super) fn send(&mut self, lines: &[u8], timeout: Duration) -> Result<(), Error> {
        match self {
            Self::Socket(stream) => {
                stream.set_write_timeout(Some(timeout))?;
                Ok(stream.write_all(lines)?)
            }
            Self::Virsh(virsh) => virsh.run(lines, None, timeout),
        }
    }

    /// Sends a request with a descriptor in the same message.
    pub(super) fn send_with_fd(&mut self, line: &[u8], fd: BorrowedFd<'_>) -> Result<(), Error> {
        let stream = match self {
            Self::Socket(stream) => stream,
            Self::Virsh(virsh) => return virsh.run(line, Some(fd), REPLY_TIMEOUT),
        };
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        let fds = [fd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let sent = sendmsg::<()>(
            stream.as_raw_fd(),
            &[IoSlice::new(line)],
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(io::Error::from)?;
        // The descriptor was sent with the first byte; the rest follows without it.
        Ok(stream.write_all(&line[sent..])?)
    }

    /// Appends bytes that QEMU has sent; `None` if there are none until the deadline.
    pub(super) fn receive(
        &mut self,
        received: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<Option<()>, Error> {
        let stream = match self {
            Self::Socket(stream) => stream,
            Self::Virsh(virsh) => return Ok(virsh.take_replies(received)),
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            match read(stream, received, left) {
                Ok(0) => return Err(Error::Closed),
                Ok(_) => return Ok(Some(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It has not read all commands.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(Error::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Appends the next bytes of a stream.
pub(in super::super) fn read(
    stream: &mut UnixStream,
    received: &mut Vec<u8>,
    timeout: Duration,
) -> io::Result<usize> {
    stream.set_read_timeout(Some(timeout))?;
    let mut chunk = [0; 16 * 1024];
    let length = stream.read(&mut chunk)?;
    received.extend_from_slice(&chunk[..length]);
    Ok(length)
}
