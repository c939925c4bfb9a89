//! The socket to the real kernel.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use super::batch::ACK;
use super::reply::{Replies, ReplyKind};
use super::{Batch, Connection, Dump, Error, Family, KernelError};

/// How large the datagrams of a dump may be. The kernel allots each anew, as large as the largest
/// buffer that was ever offered, up to 32 KiB; without a page it begins with no dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvBuffer {
    /// Whole tables: the fewer datagrams the better.
    Large,
    /// Thousands of short lists: a quarter faster than with [`RecvBuffer::Large`].
    Small,
}

impl RecvBuffer {
    /// Larger than any datagram then is, in bytes.
    fn buffer(self) -> usize {
        match self {
            Self::Large => 64 * 1024,
            Self::Small => 8 * 1024,
        }
    }
}

/// The kernel answers inside `sendmsg`; who waits longer than this waits for nothing.
const PATIENCE: TimeVal = TimeVal::new(5, 0);

/// Most events that are thrown away at once: who is flooded faster than that must look again.
const MAX_DRAINED: usize = 4096;

/// A connected netlink socket with extended acknowledgements.
#[derive(Debug)]
pub struct Socket<F> {
    inner: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
    family: PhantomData<F>,
}

impl<F: Family> Socket<F> {
    /// Opens it in the network namespace of the calling thread.
    pub fn open(dumps: RecvBuffer) -> Result<Self, Error> {
        Self::with_buffer(dumps.buffer())
    }

    fn with_buffer(bytes: usize) -> Result<Self, Error> {
        let open = || {
            let mut socket = netlink_sys::Socket::new(F::PROTOCOL)?;
            socket.bind_auto()?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            // Without it a dump ignores the filters in its header. Linux before 4.20 has no such
            // option; our filters are applied again when answers are read.
            let _ = socket.set_netlink_get_strict_chk(true);
            setsockopt(&borrow(&socket), ReceiveTimeout, &PATIENCE)?;
            io::Result::Ok(socket)
        };
        Ok(Self {
            inner: open().map_err(Error::Open)?,
            sequence: 0,
            buffer: Vec::with_capacity(bytes),
            family: PhantomData,
        })
    }

    /// Opens it as a listener to these multicast groups (`RTMGRP_*` mask); it is only polled and
    /// drained, so it needs no more.
    pub fn listen(groups: u32) -> Result<Self, Error> {
        let open = || {
            let mut socket = netlink_sys::Socket::new(F::PROTOCOL)?;
            socket.bind(&netlink_sys::SocketAddr::new(0, groups))?;
            socket.set_non_blocking(true)?;
            io::Result::Ok(socket)
        };
        Ok(Self {
            inner: open().map_err(Error::Open)?,
            sequence: 0,
            buffer: Vec::new(),
            family: PhantomData,
        })
    }

    /// Throws away what has arrived; an overrun is as good as an event.
    pub fn drain(&mut self) {
        for _ in 0..MAX_DRAINED {
            self.buffer.clear();
            // One byte of room tells that there was a datagram; its content is never trusted.
            self.buffer.reserve(1);
            match self.inner.recv(&mut self.buffer, libc::MSG_TRUNC) {
                Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return,
                _ => {}
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let kernel = netlink_sys::SocketAddr::new(0, 0);
        self.inner.send_to(bytes, &kernel, 0).map_err(Error::Send)?;
        Ok(())
    }

    fn numbers(&mut self, count: usize) -> u32 {
        let first = self.sequence.wrapping_add(1);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // Zero marks what the kernel sends unasked.
        if first == 0 || first.checked_add(count).is_none() {
            self.sequence = count;
            return 1;
        }
        self.sequence = first + count - 1;
        first
    }

    /// The next datagram of the kernel; those of other senders are passed over.
    fn receive(&mut self) -> Result<(), Error> {
        loop {
            self.buffer.clear();
            match self.inner.recv_from(&mut self.buffer, libc::MSG_TRUNC) {
                Ok((length, _)) if length > self.buffer.len() => return Err(Error::Truncated),
                Ok((_, sender)) if sender.port_number() == 0 => return Ok(()),
                Ok(_) => {}
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                    Errno::EINTR => {}
                    Errno::ENOBUFS => return Err(Error::Overrun),
                    _ => return Err(Error::Receive(error)),
                },
            }
        }
    }

    /// Reads answers up to the end of request `last`. Answers of requests from `first` on are handed
    /// over; older ones are left from an exchange that failed.
    fn answers(
        &mut self,
        first: u32,
        last: u32,
        each: &mut dyn FnMut(u32, ReplyKind<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut trouble = Ok(());
        loop {
            self.receive()?;
            for reply in Replies(&self.buffer) {
                let reply = reply?;
                if !(first..=last).contains(&reply.sequence) {
                    continue;
                }
                if reply.interrupted {
                    trouble = trouble.and(Err(Error::Interrupted));
                }
                let end = matches!(reply.kind, ReplyKind::End(_)) && reply.sequence == last;
                // Even when the caller can take no more the answer is read to its end, or it
                // would stand before the next one.
                if trouble.is_ok() {
                    trouble = each(reply.sequence, reply.kind);
                }
                if end {
                    return trouble;
                }
            }
        }
    }
}

fn borrow(socket: &netlink_sys::Socket) -> BorrowedFd<'_> {
    #[allow(unsafe_code)]
    // SAFETY: the descriptor is open as long as the socket is borrowed.
    unsafe {
        BorrowedFd::borrow_raw(socket.as_raw_fd())
    }
}

impl<F> AsFd for Socket<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.inner)
    }
}

impl<F: Family> Connection<F> for Socket<F> {
    fn send(&mut self, batch: &Batch<F>) -> Result<Vec<(usize, KernelError)>, Error> {
        let mut refusals = Vec::new();
        for chunk in batch.chunks() {
            let first = self.numbers(chunk.len());
            let last = self.sequence;
            self.send(&batch.encode(&chunk, first, ACK))?;
            self.answers(first, last, &mut |sequence, kind| {
                if let ReplyKind::End(Err(refusal)) = kind {
                    let offset = usize::try_from(sequence - first).unwrap_or(usize::MAX);
                    refusals.push((chunk.start.saturating_add(offset), refusal));
                }
                Ok(())
            })?;
        }
        Ok(refusals)
    }

    fn dump(
        &mut self,
        request: &Batch<F>,
        each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let sequence = self.numbers(1);
        // A dump ends by itself; a get ends with the ACK that is asked for.
        let flags = if request.is_dump() { 0 } else { ACK };
        self.send(&request.encode(&(0..1), sequence, flags))?;
        self.answers(sequence, sequence, &mut |_, kind| match kind {
            ReplyKind::Payload(payload) => each(payload),
            ReplyKind::End(Err(refusal)) => Err(Error::Refused(refusal)),
            ReplyKind::End(Ok(())) | ReplyKind::Noop => Ok(()),
        })
    }

    fn dump_first(
        &mut self,
        request: &Batch<F>,
        most: usize,
        each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Dump, Error> {
        // Only the end of its socket ends a dump early, so it has one of its own.
        let mut other = Self::with_buffer(self.buffer.capacity())?;
        let sequence = other.numbers(1);
        other.send(&request.encode(&(0..1), sequence, 0))?;
        let mut left = most;
        loop {
            other.receive()?;
            for reply in Replies(&other.buffer) {
                let reply = reply?;
                if reply.interrupted {
                    return Err(Error::Interrupted);
                }
                match reply.kind {
                    ReplyKind::Payload(_) if left == 0 => return Ok(Dump::Truncated),
                    ReplyKind::Payload(payload) => {
                        left -= 1;
                        each(payload)?;
                    }
                    ReplyKind::End(Err(refusal)) => return Err(Error::Refused(refusal)),
                    ReplyKind::End(Ok(())) => return Ok(Dump::Complete),
                    ReplyKind::Noop => {}
                }
            }
        }
    }
}
