//! Beginning of a session: connection, negotiation and the first queries.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::command::{QmpCapabilities, QueryStatus, QueryVirtioStatus, StatusInfo};
use super::super::error::Error;
use super::super::message::Message;
use super::super::virsh::{SharedMonitor, Virsh};
use super::channel::Channel;
use super::{Monitor, REPLY_TIMEOUT, Session, VSOCK_DEVICE, listener};
use crate::process::Process;
use crate::vsock_stream;

/// Timeout of the greeting; a monitor with another client never sends it.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Shortest timeout of a process that libvirtd serves.
const VIRSH_TIMEOUT: Duration = Duration::from_secs(2);

impl Session {
    /// Connects, waits for the greeting, negotiates capabilities and reads the machine's state.
    pub(crate) fn connect(monitor: Monitor<'_>) -> Result<Self, Error> {
        Self::connect_within(monitor, GREETING_TIMEOUT)
    }

    /// The same with another limit for the connection and for the greeting.
    pub(crate) fn connect_within(
        Monitor { path, qemu, shared }: Monitor<'_>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let _phase = tracing::info_span!("qmp").entered();
        // Each connection stays in the queue of a QEMU that is stopped, even once it is closed. The queue
        // is short, and a full one looks like a monitor with another client.
        qemu.map_or(Ok(()), listener::check_scheduled)?;
        if let Some(shared) = shared {
            return Self::through_libvirt(shared, path, timeout);
        }
        let stream = vsock_stream::unix(path, timeout);
        let stream = stream.map_err(|source| match source.kind() {
            io::ErrorKind::TimedOut => busy(path, timeout),
            _ => Error::Connect {
                path: path.to_owned(),
                source,
            },
        })?;
        listener::check_user(&stream, path)?;
        listener::process(&stream).map_or(Ok(()), listener::check_scheduled)?;
        Self::over(stream, path, timeout)
    }

    /// Waits for the greeting on a stream and negotiates; `path` is for messages only.
    pub(crate) fn over(stream: UnixStream, path: &Path, timeout: Duration) -> Result<Self, Error> {
        let mut session = Self::new(Channel::Socket(stream));
        let sent = session.send_first(&["oob"]);
        let deadline = Instant::now() + timeout;
        let greeting = loop {
            match session.message(deadline)? {
                Some(Message::Greeting(greeting)) => break greeting,
                Some(_) => {}
                None => return Err(busy(path, timeout)),
            }
        };
        sent?;
        if !greeting.capabilities.iter().any(|offered| offered == "oob") {
            // A monitor without it has refused the negotiation, and with it the queries.
            session.send_first(&[])?;
        }
        let negotiation = session.last_id - 2;
        session.reply::<QmpCapabilities<'_>>(negotiation, REPLY_TIMEOUT)?;
        session.read_state()?;
        Ok(session)
    }

    /// Begins a session over the one of libvirtd, which has negotiated; `path` is for messages only.
    fn through_libvirt(
        shared: &SharedMonitor,
        path: &Path,
        timeout: Duration,
    ) -> Result<Self, Error> {
        // libvirtd can have started the domain again since its file was read.
        let ended = || Error::Connect {
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        };
        Process::of(shared.qemu).ok_or_else(ended)?;
        let mut session = Self::new(Channel::Virsh(Virsh::new(shared.clone())));
        let queries = session.first_queries()?;
        session.channel.send(&queries, timeout.max(VIRSH_TIMEOUT))?;
        session.read_state()?;
        Ok(session)
    }

    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            received: Vec::new(),
            last_id: 0,
            status: StatusInfo::default(),
            vsock: None,
            overdue: false,
        }
    }

    /// Sends the negotiation and the first queries, without waiting: each pass of QEMU's main loop costs a third
    /// of a millisecond. QEMU sends its greeting before it reads them.
    fn send_first(&mut self, enable: &[&'static str]) -> Result<(), Error> {
        let mut lines = self.request(&QmpCapabilities { enable })?;
        lines.extend(self.first_queries()?);
        self.channel.send(&lines, REPLY_TIMEOUT)
    }

    fn first_queries(&mut self) -> Result<Vec<u8>, Error> {
        let path = &format!("/machine/peripheral/{VSOCK_DEVICE}/virtio-backend");
        let mut lines = self.request(&QueryStatus {})?;
        lines.extend(self.request(&QueryVirtioStatus { path })?);
        Ok(lines)
    }

    /// Reads the replies to the first queries.
    fn read_state(&mut self) -> Result<(), Error> {
        let last = self.last_id;
        self.status = self.reply::<QueryStatus>(last - 1, REPLY_TIMEOUT)?;
        self.vsock = match self.reply::<QueryVirtioStatus<'_>>(last, REPLY_TIMEOUT) {
            Err(Error::Refused { .. }) => None,
            vsock => Some(vsock?),
        };
        Ok(())
    }
}

fn busy(path: &Path, waited: Duration) -> Error {
    Error::Busy {
        path: path.to_owned(),
        waited,
    }
}
