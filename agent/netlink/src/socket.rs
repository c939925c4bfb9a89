//! Blocking netlink socket.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use super::batch::ACK;
use super::reply::{Replies, ReplyKind};
use super::{Batch, Dump, Each, Error, KernelError, NetlinkProtocol, Transport};

/// Size of the receive buffer. The kernel allocates an skb for each datagram of a dump: as large as the
/// largest receive buffer seen on the socket, up to 32 KiB, or a page if memory is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum RecvBuffer {
    /// 64 KiB, for whole tables: fewer datagrams.
    Large = 64 * 1024,
    /// 8 KiB, for short replies.
    Small = 8 * 1024,
    /// The kernel's minimum for a dump (`NLMSG_GOODSIZE`), for thousands of short ones: the kernel zeroes
    /// every skb that it allocates.
    Page = GOODSIZE,
}

/// Size of a page without the kernel's header of an skb. Kernels with larger pages use at most 8 KiB.
const GOODSIZE: usize = if cfg!(target_arch = "x86_64") {
    4096 - 320
} else {
    8192 - 320
};

/// Receive timeout. The kernel queues its reply before `sendmsg` returns, so a timeout means that the
/// reply is lost.
const RECV_TIMEOUT: TimeVal = TimeVal::new(5, 0);

/// Wanted size of the receive buffer for events.
const EVENTS_BYTES: usize = 1 << 20;

/// Maximum number of events that one drain discards. The rest makes the next poll return at once.
const MAX_SKIPPED_EVENTS: usize = 4096;

/// Netlink socket with extended ACKs, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket<P> {
    inner: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
    protocol: PhantomData<P>,
}

impl<P: NetlinkProtocol> Socket<P> {
    /// Opens a socket for requests.
    pub fn open(buffer: RecvBuffer) -> Result<Self, Error> {
        Self::with_buffer(buffer as usize)
    }

    fn with_buffer(bytes: usize) -> Result<Self, Error> {
        Self::new(bytes, |socket| {
            socket.bind_auto()?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            // Without it the kernel ignores the filters in a dump's header. Linux before 4.20 has no
            // such option; callers apply their filters to the replies as well.
            let _ = socket.set_netlink_get_strict_chk(true);
            Ok(setsockopt(&borrow(socket), ReceiveTimeout, &RECV_TIMEOUT)?)
        })
    }

    /// Opens a non-blocking socket that receives the events of multicast groups (mask of
    /// `RTMGRP_*`), for polling and draining.
    pub fn listen(groups: u32) -> Result<Self, Error> {
        Self::new(0, |socket| {
            socket.bind(&netlink_sys::SocketAddr::new(0, groups))?;
            socket.set_non_blocking(true)
        })
    }

    /// Opens a non-blocking socket that receives the events of multicast groups, for [`Socket::read_events`].
    /// The kernel holds as many as its limit for a receive buffer allows (`net.core.rmem_max`).
    pub fn subscribe(groups: u32) -> Result<Self, Error> {
        Self::new(RecvBuffer::Small as usize, |socket| {
            // Before the socket receives anything.
            setsockopt(&borrow(socket), sockopt::RcvBuf, &EVENTS_BYTES)?;
            socket.bind(&netlink_sys::SocketAddr::new(0, groups))?;
            socket.set_non_blocking(true)
        })
    }

    /// Reads the next datagram of events and passes on the type and the payload of each message. Returns whether
    /// there was one.
    ///
    /// # Errors
    /// [`Error::Overrun`] and [`Error::Truncated`] if events are lost, and [`Error::Malformed`].
    pub fn read_events(&mut self, each: &mut dyn FnMut(u16, &[u8])) -> Result<bool, Error> {
        match self.receive() {
            Err(Error::Receive(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(false);
            }
            received => received?,
        }
        for reply in Replies(&self.buffer) {
            let reply = reply?;
            if let ReplyKind::Payload(payload) = reply.kind {
                each(reply.number, payload);
            }
        }
        Ok(true)
    }

    fn new(
        buffer: usize,
        set_up: impl FnOnce(&mut netlink_sys::Socket) -> io::Result<()>,
    ) -> Result<Self, Error> {
        let mut inner = netlink_sys::Socket::new(P::PROTOCOL).map_err(Error::Open)?;
        set_up(&mut inner).map_err(Error::Open)?;
        Ok(Self {
            inner,
            sequence: 0,
            buffer: Vec::with_capacity(buffer),
            protocol: PhantomData,
        })
    }

    /// Discards pending events. An overrun counts as an event.
    pub fn drain(&mut self) {
        for _ in 0..MAX_SKIPPED_EVENTS {
            self.buffer.clear();
            // One byte suffices to take a datagram off the queue.
            self.buffer.reserve(1);
            match self.inner.recv(&mut self.buffer, libc::MSG_TRUNC) {
                Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return,
                _ => {}
            }
        }
    }

    fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // Without a destination, which the agent's seccomp filter denies, the receiver is the kernel.
        self.inner.send(bytes, 0).map_err(Error::Send)?;
        Ok(())
    }

    /// Reserves `count` consecutive sequence numbers and returns the first.
    fn reserve_sequences(&mut self, count: usize) -> u32 {
        let first = self.sequence.wrapping_add(1);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // The kernel uses 0 for messages that are not replies.
        if first == 0 || first.checked_add(count).is_none() {
            self.sequence = count;
            return 1;
        }
        self.sequence = first + count - 1;
        first
    }

    /// Receives the next datagram of the kernel; ignores those of other senders.
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

    /// Receives the replies to requests `first` to `last`, up to the end of the reply to `last`.
    /// Ignores replies to older requests, which a failed exchange can leave in the queue.
    fn read_replies(
        &mut self,
        first: u32,
        last: u32,
        each: &mut dyn FnMut(u32, ReplyKind<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        loop {
            self.receive()?;
            for reply in Replies(&self.buffer) {
                let reply = reply?;
                if !(first..=last).contains(&reply.sequence) {
                    continue;
                }
                if reply.interrupted {
                    result = result.and(Err(Error::Interrupted));
                }
                let end = matches!(reply.kind, ReplyKind::End(_)) && reply.sequence == last;
                // After an error the rest is still read, or it would precede the next reply.
                if result.is_ok() {
                    result = each(reply.sequence, reply.kind);
                }
                if end {
                    return result;
                }
            }
        }
    }
}

fn borrow(socket: &netlink_sys::Socket) -> BorrowedFd<'_> {
    #[expect(unsafe_code, reason = "netlink-sys implements only AsRawFd")]
    // SAFETY: the descriptor is open as long as the socket is borrowed.
    unsafe {
        BorrowedFd::borrow_raw(socket.as_raw_fd())
    }
}

impl<P> AsFd for Socket<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.inner)
    }
}

impl<P: NetlinkProtocol> Transport<P> for Socket<P> {
    fn send(&mut self, batch: &Batch<P>) -> Result<Vec<(usize, KernelError)>, Error> {
        let mut errors = Vec::new();
        for chunk in batch.chunks() {
            let first = self.reserve_sequences(chunk.len());
            let last = self.sequence;
            self.send_bytes(&batch.encode(&chunk, first, ACK))?;
            self.read_replies(first, last, &mut |sequence, kind| {
                if let ReplyKind::End(Err(error)) = kind {
                    let offset = usize::try_from(sequence - first).unwrap_or(usize::MAX);
                    errors.push((chunk.start.saturating_add(offset), error));
                }
                Ok(())
            })?;
        }
        Ok(errors)
    }

    fn dump(&mut self, request: &Batch<P>, each: Each<'_>) -> Result<(), Error> {
        let sequence = self.reserve_sequences(1);
        // A dump ends with NLMSG_DONE, a get with the requested ACK.
        let flags = if request.is_dump() { 0 } else { ACK };
        self.send_bytes(&request.encode(&(0..1), sequence, flags))?;
        self.read_replies(sequence, sequence, &mut |_, kind| match kind {
            ReplyKind::Payload(payload) => each(payload),
            ReplyKind::End(Err(error)) => Err(Error::Refused(error)),
            ReplyKind::End(Ok(())) | ReplyKind::Noop => Ok(()),
        })
    }

    fn dump_first(
        &mut self,
        request: &Batch<P>,
        most: usize,
        each: Each<'_>,
    ) -> Result<Dump, Error> {
        // Only closing its socket aborts a dump, so this one runs on a temporary socket.
        let mut other = Self::with_buffer(self.buffer.capacity())?;
        let sequence = other.reserve_sequences(1);
        other.send_bytes(&request.encode(&(0..1), sequence, 0))?;
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
                    ReplyKind::End(Err(error)) => return Err(Error::Refused(error)),
                    ReplyKind::End(Ok(())) => return Ok(Dump::Complete),
                    ReplyKind::Noop => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Flags, Rtnetlink};

    const RTM_GETLINK: u16 = 18;
    const LOOPBACK: u32 = 1;
    const NO_LINK: u32 = 1 << 30;

    fn get_link(index: u32) -> Batch<Rtnetlink> {
        Batch::of(RTM_GETLINK, Flags::Plain, |body| {
            body.raw(&[0; 4]);
            for number in [index, 0, 0] {
                body.raw(&number.to_ne_bytes());
            }
        })
    }

    /// `NLMSG_ERROR` with EPERM for the first request of a socket.
    fn forged_refusal() -> Vec<u8> {
        let mut message = vec![36, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        message.extend((-libc::EPERM).to_ne_bytes());
        message.resize(36, 0);
        message
    }

    #[test]
    fn reply_of_another_sender_is_ignored() {
        let mut socket = Socket::open(RecvBuffer::Small).unwrap();
        let mut own = netlink_sys::SocketAddr::new(0, 0);
        socket.inner.get_address(&mut own).unwrap();
        let mut other = netlink_sys::Socket::new(Rtnetlink::PROTOCOL).unwrap();
        other.bind_auto().unwrap();
        other.send_to(&forged_refusal(), &own, 0).unwrap();
        assert_eq!(socket.send(&get_link(LOOPBACK)).unwrap(), []);
    }

    #[test]
    fn reply_to_an_older_request_is_ignored() {
        let mut socket = Socket::open(RecvBuffer::Small).unwrap();
        let older = get_link(NO_LINK).encode(&(0..1), 77, ACK);
        socket.send_bytes(&older).unwrap();
        assert_eq!(socket.send(&get_link(LOOPBACK)).unwrap(), []);
    }
}
