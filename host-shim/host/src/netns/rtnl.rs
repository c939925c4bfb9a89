//! Rtnetlink requests in a network namespace of the host.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;
use patchbay_types::failure::{Failure, Kind};

use super::Netns;

/// Attempts to read a table that others change meanwhile.
const MAX_ATTEMPTS: u32 = 10;
/// Maximum number of objects in one dump.
const MAX_OBJECTS: usize = 65_536;

/// Receive timeout. The kernel queues its reply before `sendmsg` returns, so a timeout means that the reply is lost.
const RECEIVE_TIMEOUT: TimeVal = TimeVal::new(5, 0);

/// Rtnetlink socket in a network namespace.
#[derive(Debug)]
pub(crate) struct Rtnetlink {
    socket: Socket,
    /// Sequence number of the last request.
    sequence: Mutex<u32>,
}

/// Request whose replies are received.
struct Exchange<'a> {
    socket: &'a Socket,
    sequence: MutexGuard<'a, u32>,
}

impl Rtnetlink {
    /// Opens a socket in the namespace.
    pub(crate) fn open(namespace: &Netns) -> io::Result<Self> {
        namespace.run(|| {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            setsockopt(&socket.as_fd(), ReceiveTimeout, &RECEIVE_TIMEOUT)?;
            let sequence = Mutex::new(0);
            Ok(Self { socket, sequence })
        })
    }

    /// Reads one object.
    fn get<T>(&self, request: &RouteNetlinkMessage) -> io::Result<T>
    where
        T: NetlinkDeserializable,
    {
        let exchange = self.send(request, 0)?;
        let unknown = || io::Error::other("the kernel's reply is of an unknown type");
        match payload(&exchange.receive()?)? {
            Some(Reply::Object(object)) => Ok(object),
            _ => Err(unknown()),
        }
    }

    /// Reads a link; `None` if there is none.
    pub(crate) fn get_if_exists<T>(&self, request: &RouteNetlinkMessage) -> io::Result<Option<T>>
    where
        T: NetlinkDeserializable,
    {
        match self.get(request) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists objects, and converts each; skips those that `T` can't represent.
    pub(crate) fn dump<T>(&self, request: &RouteNetlinkMessage) -> io::Result<Vec<T>>
    where
        T: NetlinkDeserializable,
    {
        for _ in 0..MAX_ATTEMPTS {
            if let Some(listed) = self.dump_once(request)? {
                return Ok(listed);
            }
        }
        Err(io::Error::other("the table changes too fast to be read"))
    }

    /// Returns `None` if the table has changed meanwhile.
    fn dump_once<T: NetlinkDeserializable>(
        &self,
        request: &RouteNetlinkMessage,
    ) -> io::Result<Option<Vec<T>>> {
        let exchange = self.send(request, NLM_F_DUMP)?;
        let mut dump = Dump::default();
        while !dump.is_done {
            dump.add(&exchange.receive()?)?;
        }
        Ok(dump.is_consistent().then_some(dump.listed))
    }

    /// Changes an object.
    pub(crate) fn change(&self, request: &RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let reply = self.send(request, NLM_F_ACK | flags)?.receive()?;
        let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply);
        match reply.map_err(io::Error::other)?.payload {
            NetlinkPayload::Error(ack) if ack.code.is_none() => Ok(()),
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(io::Error::other("the kernel's reply is of an unknown type")),
        }
    }

    fn send(&self, request: &RouteNetlinkMessage, flags: u16) -> io::Result<Exchange<'_>> {
        let mut sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        *sequence = sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = *sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request.clone()));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let socket = &self.socket;
        socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        Ok(Exchange { socket, sequence })
    }
}

impl Exchange<'_> {
    /// Receives a datagram of the kernel's reply. Any process can send to the socket, and a request that failed
    /// can leave a part of its reply.
    fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            let received = self.socket.recv_from_full();
            let (datagram, sender) = received.map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
                _ => error,
            })?;
            if sender.port_number() != 0 {
                continue;
            }
            let message = NetlinkBuffer::new_checked(&datagram).map_err(io::Error::other)?;
            if message.sequence_number() == *self.sequence {
                return Ok(datagram);
            }
        }
    }
}

/// Objects of a dump that have been received.
#[derive(Debug)]
pub(crate) struct Dump<T> {
    pub(crate) listed: Vec<T>,
    was_interrupted: bool,
    is_done: bool,
}

impl<T> Default for Dump<T> {
    fn default() -> Self {
        Self {
            listed: Vec::new(),
            was_interrupted: false,
            is_done: false,
        }
    }
}

impl<T: NetlinkDeserializable> Dump<T> {
    /// Adds the messages of a datagram.
    pub(crate) fn add(&mut self, datagram: &[u8]) -> io::Result<()> {
        let mut rest = datagram;
        while !rest.is_empty() && !self.is_done {
            let message = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
            let length = usize::try_from(message.length()).map_err(io::Error::other)?;
            self.was_interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            match payload::<T>(&rest[..length])? {
                Some(Reply::Object(object)) if self.listed.len() < MAX_OBJECTS => {
                    self.listed.push(object);
                }
                Some(Reply::Object(_)) => {
                    return Err(io::Error::other("the table has more than 65536 entries"));
                }
                Some(Reply::Done) => self.is_done = true,
                None => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    /// Returns whether the table stayed the same while it was read.
    fn is_consistent(&self) -> bool {
        !self.was_interrupted
    }
}

/// Message of a dump.
enum Reply<T> {
    Object(T),
    Done,
}

/// Decodes a message; `None` for an object that `T` can't represent.
fn payload<T: NetlinkDeserializable>(bytes: &[u8]) -> io::Result<Option<Reply<T>>> {
    let message = match NetlinkMessage::<T>::deserialize(bytes) {
        Ok(message) => message,
        Err(error) => {
            tracing::debug!("skipped an object of a dump: {error}");
            return Ok(None);
        }
    };
    match message.payload {
        NetlinkPayload::InnerMessage(object) => Ok(Some(Reply::Object(object))),
        NetlinkPayload::Done(done) if done.code == 0 => Ok(Some(Reply::Done)),
        NetlinkPayload::Done(done) => Err(io::Error::from_raw_os_error(-done.code)),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Ok(None),
    }
}

/// Converts a failure of a qdisc or a filter that needs these modules.
pub(crate) fn tc_failure(message: &str, error: &io::Error, modules: &str) -> Failure {
    match error.raw_os_error() {
        // The kernel has no module of the kind.
        Some(libc::ENOENT | libc::EOPNOTSUPP) => {
            let cause = format!("the kernel of the host lacks a module ({modules})");
            Failure::new(Kind::Unsupported, message).with_cause(cause)
        }
        _ => Failure::of_io(message, error),
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkMessage;

    use super::*;

    #[test]
    fn reply_to_an_earlier_request_is_skipped() {
        let rtnl = Rtnetlink::open(&Netns::current().unwrap()).unwrap();
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        drop(rtnl.send(&all, NLM_F_DUMP).unwrap());
        let mut absent = LinkMessage::default();
        absent.header.index = 1 << 30;
        let absent = RouteNetlinkMessage::GetLink(absent);
        let found = rtnl.get_if_exists::<RouteNetlinkMessage>(&absent);
        assert!(found.unwrap().is_none());
    }
}
