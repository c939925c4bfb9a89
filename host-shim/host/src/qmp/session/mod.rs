//! Session with a monitor, connected and with negotiated capabilities.

mod begin;
mod channel;
mod listener;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::command::{QmpCommand, StatusInfo, VirtioStatus};
use super::error::Error;
use super::message::{Message, QmpError};
use super::virsh::SharedMonitor;
use crate::process::Process;

use channel::Channel;
pub(super) use channel::read as read_chunk;

/// Id of the vsock device in machines of `patchbay-sandbox`, whose state is read without a search.
pub const VSOCK_DEVICE: &str = "vsock";
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum length of a line; those of `qom-list` have some kB.
const MAX_LINE_BYTES: usize = 4 << 20;
/// Maximum number of commands without a reply, so that no socket buffer fills.
const MAX_PIPELINED: usize = 256;

/// QEMU's monitor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monitor<'a> {
    /// QMP socket.
    pub(crate) path: &'a Path,
    /// Process id of QEMU, if it is known without a connection.
    pub(crate) qemu: Option<u32>,
    /// The way through libvirtd, if that has the socket.
    pub(crate) shared: Option<&'a SharedMonitor>,
}

/// Replies to commands of one kind.
pub(crate) type Replies<C> = Vec<Result<<C as QmpCommand>::Return, Error>>;

/// Session with a monitor.
#[derive(Debug)]
pub(crate) struct Session {
    channel: Channel,
    received: Vec<u8>,
    last_id: u64,
    status: StatusInfo,
    vsock: Option<VirtioStatus>,
    /// Set once a reply is overdue: all further commands fail at once, so that an undo leaves its
    /// work to the next command instead of waiting for each step.
    overdue: bool,
}

/// Key that holds the command's name. `exec-oob` overtakes a command that blocks the main loop.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum ExecuteKey {
    Execute(&'static str),
    ExecOob(&'static str),
}

#[derive(Serialize)]
struct QmpRequest<'a, C> {
    #[serde(flatten)]
    key: ExecuteKey,
    arguments: &'a C,
    id: u64,
}

/// Id of out-of-band commands; others count from 1.
const OUT_OF_BAND: u64 = 0;

impl Session {
    /// Returns the state of the vsock device when the session began; `None` if the device has another
    /// id than [`VSOCK_DEVICE`], or QEMU no such query.
    pub(crate) fn vsock(&self) -> Option<&VirtioStatus> {
        self.vsock.as_ref()
    }

    /// Returns the state that the machine had when the session began.
    pub(crate) fn status(&self) -> &StatusInfo {
        &self.status
    }

    /// # Errors
    /// [`Error::NotRunning`] for a machine that was paused, suspended, starting or ending when the
    /// session began.
    pub(crate) fn check_running(&self) -> Result<(), Error> {
        if self.status.running {
            return Ok(());
        }
        Err(Error::NotRunning {
            state: self.status.status.clone(),
            advice: match self.status.status.as_str() {
                "paused" => "; continue it (QMP: cont)",
                "suspended" => "; wake it (QMP: system_wakeup)",
                _ => "",
            },
        })
    }

    /// Identifies QEMU by the credentials of its socket; `None` if it runs in a PID namespace that is
    /// not visible here. Another program can have bound the socket for QEMU.
    pub(crate) fn qemu(&self) -> Option<Process> {
        let pid = match &self.channel {
            Channel::Socket(stream) => listener::process(stream),
            Channel::Virsh(virsh) => Some(virsh.qemu()),
        };
        Process::of(pid?)
    }

    /// Runs a command.
    pub(crate) fn run<C: QmpCommand>(&mut self, command: &C) -> Result<C::Return, Error> {
        let line = self.request(command)?;
        self.channel.send(&line, REPLY_TIMEOUT)?;
        self.reply::<C>(self.last_id, REPLY_TIMEOUT)
    }

    /// Runs independent commands, sent ahead of their replies, which saves a pass of QEMU's main loop
    /// for each.
    pub(crate) fn run_all<C: QmpCommand>(&mut self, commands: &[C]) -> Result<Replies<C>, Error> {
        let mut replies = Vec::with_capacity(commands.len());
        for chunk in commands.chunks(MAX_PIPELINED) {
            let (lines, ids) = self.requests(chunk)?;
            self.channel.send(&lines, REPLY_TIMEOUT)?;
            replies.extend(self.replies::<C>(ids)?);
        }
        Ok(replies)
    }

    /// The same for a few commands of two kinds.
    pub(crate) fn run_both<A: QmpCommand, B: QmpCommand>(
        &mut self,
        first: &[A],
        second: &[B],
    ) -> Result<(Replies<A>, Replies<B>), Error> {
        let (mut lines, first) = self.requests(first)?;
        let (others, second) = self.requests(second)?;
        lines.extend(others);
        self.channel.send(&lines, REPLY_TIMEOUT)?;
        Ok((self.replies::<A>(first)?, self.replies::<B>(second)?))
    }

    /// Encodes commands and returns their ids.
    fn requests<C: QmpCommand>(&mut self, commands: &[C]) -> Result<(Vec<u8>, Range<u64>), Error> {
        let first = self.last_id + 1;
        let mut lines = Vec::new();
        for command in commands {
            lines.extend(self.request(command)?);
        }
        Ok((lines, first..self.last_id + 1))
    }

    fn replies<C: QmpCommand>(&mut self, ids: Range<u64>) -> Result<Replies<C>, Error> {
        let reply = |id| match self.reply::<C>(id, REPLY_TIMEOUT) {
            Err(error @ Error::Refused { .. }) => Ok(Err(error)),
            reply => Ok(Ok(reply?)),
        };
        ids.map(reply).collect()
    }

    /// # Errors
    /// [`Error::NoRescue`] over libvirtd's monitor, which sends one command after another.
    pub(crate) fn check_rescue<C: QmpCommand>(&self) -> Result<(), Error> {
        match self.channel {
            Channel::Socket(_) => Ok(()),
            Channel::Virsh(_) => Err(Error::NoRescue { command: C::NAME }),
        }
    }

    /// Runs a command that can block QEMU's main loop, and with it the guest. After the timeout,
    /// `rescue` is sent out of band to make the command fail.
    ///
    /// # Errors
    /// Those of [`Self::check_rescue`].
    pub(crate) fn run_or_rescue<C: QmpCommand, R: QmpCommand>(
        &mut self,
        command: &C,
        timeout: Duration,
        rescue: &R,
    ) -> Result<C::Return, Error> {
        self.check_rescue::<C>()?;
        let line = self.request(command)?;
        self.channel.send(&line, REPLY_TIMEOUT)?;
        match self.reply::<C>(self.last_id, timeout) {
            Err(Error::Silent { .. }) => {}
            reply => return reply,
        }
        let key = ExecuteKey::ExecOob(R::NAME);
        let line = encode(&QmpRequest {
            key,
            arguments: rescue,
            id: OUT_OF_BAND,
        })?;
        self.channel.send(&line, REPLY_TIMEOUT)?;
        self.overdue = false;
        self.reply::<C>(self.last_id, REPLY_TIMEOUT)
    }

    /// Runs a command with a descriptor in the same message. It is awaited, because QEMU closes a descriptor that
    /// no command has taken when it receives the next one.
    pub(crate) fn run_with_fd<C: QmpCommand>(
        &mut self,
        command: &C,
        fd: BorrowedFd<'_>,
    ) -> Result<C::Return, Error> {
        let line = self.request(command)?;
        self.channel.send_with_fd(&line, fd)?;
        self.reply::<C>(self.last_id, REPLY_TIMEOUT)
    }

    fn request<C: QmpCommand>(&mut self, command: &C) -> Result<Vec<u8>, Error> {
        if self.overdue {
            return Err(Error::Broken { command: C::NAME });
        }
        self.last_id += 1;
        let key = ExecuteKey::Execute(C::NAME);
        encode(&QmpRequest {
            key,
            arguments: command,
            id: self.last_id,
        })
    }

    fn reply<C: QmpCommand>(&mut self, of: u64, timeout: Duration) -> Result<C::Return, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.message(deadline)? {
                // QEMU repeats the id of the request, unless it could not parse the request.
                Some(Message::Reply { id, result }) if id.is_none_or(|id| id == of) => {
                    return match result {
                        Ok(value) => serde_json::from_value(value)
                            .map_err(|_| Error::Malformed("a reply has another type")),
                        Err(QmpError { class, desc }) => Err(Error::Refused {
                            command: C::NAME,
                            class,
                            text: desc,
                        }),
                    };
                }
                Some(_) => {}
                None => {
                    self.overdue = true;
                    return Err(Error::Silent {
                        command: C::NAME,
                        waited: timeout,
                    });
                }
            }
        }
    }

    /// Reads the next message; `None` after the deadline.
    fn message(&mut self, deadline: Instant) -> Result<Option<Message>, Error> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.received[searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let line: Vec<u8> = self.received.drain(..=searched + end).collect();
                return Message::parse(&line).map(Some);
            }
            searched = self.received.len();
            if searched > MAX_LINE_BYTES {
                return Err(Error::Malformed("a line is longer than 4 MiB"));
            }
            if self
                .channel
                .receive(&mut self.received, deadline)?
                .is_none()
            {
                return Ok(None);
            }
        }
    }
}

fn encode(request: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests;
