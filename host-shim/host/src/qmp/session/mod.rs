//! A session with a monitor: connected, greeted and negotiated, or it does not exist.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Serialize;

use super::Error;
use super::command::{Command, QmpCapabilities};
use super::message::{Event, Message, Refusal};
use crate::vsock_stream;

/// Longest wait for the greeting: a monitor that is held by another client gives none.
const GREETING: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest line that is taken; the longest real ones, of `qom-list`, have some kB.
const MAX_LINE: usize = 4 << 20;
/// Most questions that are sent ahead of their answers: neither side's socket buffer fills.
const AHEAD: usize = 64;
/// Most events that are kept while an answer is awaited.
const MAX_EVENTS: usize = 1024;

/// Commands are answered one at a time; events seen meanwhile are kept.
#[derive(Debug)]
pub struct Session {
    stream: UnixStream,
    received: Vec<u8>,
    events: VecDeque<Event>,
    last_id: u64,
    /// Once an answer is overdue nothing more is sent: who must undo something then leaves it to
    /// the journal, instead of waiting again and again.
    overdue: bool,
}

/// The two ways to send a command: in its turn, or past one that holds the main loop up.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verb {
    Execute(&'static str),
    ExecOob(&'static str),
}

#[derive(Serialize)]
struct Request<'a, C> {
    #[serde(flatten)]
    verb: Verb,
    arguments: &'a C,
    id: u64,
}

/// Id of what is sent out of band; commands in their turn count from 1.
const OUT_OF_BAND: u64 = 0;

impl Session {
    /// Connects, waits for the greeting, negotiates.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let _phase = tracing::info_span!("qmp").entered();
        let connect = |source: io::Error| match source.kind() {
            io::ErrorKind::TimedOut => Error::Busy {
                path: path.to_owned(),
                waited: GREETING,
            },
            _ => Error::Connect {
                path: path.to_owned(),
                source,
            },
        };
        Self::over(vsock_stream::unix(path, GREETING).map_err(connect)?, path)
    }

    /// Waits for the greeting on a stream; `path` is for messages only.
    pub fn over(stream: UnixStream, path: &Path) -> Result<Self, Error> {
        let mut session = Self {
            stream,
            received: Vec::new(),
            events: VecDeque::new(),
            last_id: 0,
            overdue: false,
        };
        let deadline = Instant::now() + GREETING;
        let greeting = loop {
            match session.message(deadline)? {
                Some(Message::Greeting(greeting)) => break greeting,
                Some(message) => session.keep(message),
                None => {
                    return Err(Error::Busy {
                        path: path.to_owned(),
                        waited: GREETING,
                    });
                }
            }
        };
        let oob: &[_] = if greeting.capabilities.iter().any(|offered| offered == "oob") {
            &["oob"]
        } else {
            &[]
        };
        session.run(&QmpCapabilities { enable: oob })?;
        Ok(session)
    }

    /// Sends a command and waits for its answer.
    pub fn run<C: Command>(&mut self, command: &C) -> Result<C::Return, Error> {
        let line = self.request(command)?;
        self.stream.write_all(&line)?;
        self.answer::<C>(self.last_id, ANSWER)
    }

    /// Questions that do not depend on each other: all are sent before the first answer is awaited,
    /// which saves a way through QEMU's main loop for each.
    pub fn run_all<C: Command>(
        &mut self,
        questions: &[C],
    ) -> Result<Vec<Result<C::Return, Error>>, Error> {
        let mut answers = Vec::with_capacity(questions.len());
        for some in questions.chunks(AHEAD) {
            let first = self.last_id + 1;
            let mut lines = Vec::new();
            for question in some {
                lines.extend(self.request(question)?);
            }
            self.stream.write_all(&lines)?;
            for id in first..=self.last_id {
                answers.push(match self.answer::<C>(id, ANSWER) {
                    Err(Error::Refused {
                        command,
                        class,
                        text,
                    }) => Err(Error::Refused {
                        command,
                        class,
                        text,
                    }),
                    answer => Ok(answer?),
                });
            }
        }
        Ok(answers)
    }

    /// The same for a command that can hold QEMU's main loop, and with it the guest: when its answer
    /// is not there in time, `rescue` is sent past it and makes it fail.
    pub fn run_or_rescue<C: Command, R: Command>(
        &mut self,
        command: &C,
        patience: Duration,
        rescue: &R,
    ) -> Result<C::Return, Error> {
        let line = self.request(command)?;
        self.stream.write_all(&line)?;
        match self.answer::<C>(self.last_id, patience) {
            Err(Error::Silent { .. }) => {}
            answered => return answered,
        }
        let verb = Verb::ExecOob(R::NAME);
        let line = encode(&Request {
            verb,
            arguments: rescue,
            id: OUT_OF_BAND,
        })?;
        self.stream.write_all(&line)?;
        self.overdue = false;
        self.answer::<C>(self.last_id, ANSWER)
    }

    /// The same, with a descriptor for QEMU in the same message.
    pub fn run_with_fd<C: Command>(
        &mut self,
        command: &C,
        fd: BorrowedFd<'_>,
    ) -> Result<C::Return, Error> {
        let line = self.request(command)?;
        let fds = [fd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let socket = self.stream.as_raw_fd();
        let sent = sendmsg::<()>(
            socket,
            &[IoSlice::new(&line)],
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(io::Error::from)?;
        // What did not fit follows without the descriptor, which went with the first byte.
        self.stream.write_all(&line[sent..])?;
        self.answer::<C>(self.last_id, ANSWER)
    }

    /// Waits until the deadline for an event that `wanted` picks; older events are looked at first.
    pub fn event(
        &mut self,
        deadline: Instant,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Option<Event>, Error> {
        loop {
            while let Some(event) = self.events.pop_front() {
                if wanted(&event) {
                    return Ok(Some(event));
                }
            }
            match self.message(deadline)? {
                Some(message) => self.keep(message),
                None => return Ok(None),
            }
        }
    }

    fn request<C: Command>(&mut self, command: &C) -> Result<Vec<u8>, Error> {
        if self.overdue {
            return Err(Error::Broken { command: C::NAME });
        }
        self.last_id += 1;
        let verb = Verb::Execute(C::NAME);
        let line = encode(&Request {
            verb,
            arguments: command,
            id: self.last_id,
        })?;
        self.stream.set_write_timeout(Some(ANSWER))?;
        Ok(line)
    }

    fn answer<C: Command>(&mut self, of: u64, patience: Duration) -> Result<C::Return, Error> {
        let deadline = Instant::now() + patience;
        loop {
            match self.message(deadline)? {
                // QEMU repeats the id of what it answers, but for a line that it could not read.
                Some(Message::Answer { id, result }) if id.is_none_or(|id| id == of) => {
                    return match result {
                        Ok(value) => serde_json::from_value(value)
                            .map_err(|_| Error::Malformed("an answer has another type")),
                        Err(Refusal { class, desc }) => Err(Error::Refused {
                            command: C::NAME,
                            class,
                            text: desc,
                        }),
                    };
                }
                Some(message) => self.keep(message),
                None => {
                    self.overdue = true;
                    return Err(Error::Silent {
                        command: C::NAME,
                        waited: patience,
                    });
                }
            }
        }
    }

    fn keep(&mut self, message: Message) {
        if let Message::Event(event) = message
            && event.tells_of_a_device()
        {
            if self.events.len() == MAX_EVENTS {
                self.events.pop_front();
            }
            self.events.push_back(event);
        }
    }

    /// The next line, or `None` when the deadline has passed.
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
            if searched > MAX_LINE {
                return Err(Error::Malformed("a line is longer than 4 MiB"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Error::Closed),
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
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
