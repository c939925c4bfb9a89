//! Messages to the service.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::mpsc::{self, Receiver, Sender};

use super::{Report, Stop};

/// Message to the thread of the service.
#[derive(Debug)]
pub(super) enum Message {
    /// Everything is to be compared.
    Reload,
    /// The stop was requested.
    Stop,
    /// The sandbox with this number is reconciled.
    Done(u64, Report),
}

/// Sender of messages.
#[derive(Debug)]
pub(super) struct Mailbox {
    sender: Sender<Message>,
    wake: PipeWriter,
}

/// Receiver of messages.
#[derive(Debug)]
pub(super) struct Inbox {
    receiver: Receiver<Message>,
    pub(super) wake: PipeReader,
}

/// Creates both ends.
pub(super) fn mailbox() -> io::Result<(Mailbox, Inbox)> {
    let (sender, receiver) = mpsc::channel();
    let (reader, wake) = io::pipe()?;
    let inbox = Inbox {
        receiver,
        wake: reader,
    };
    Ok((Mailbox { sender, wake }, inbox))
}

impl Mailbox {
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            sender: self.sender.clone(),
            wake: self.wake.try_clone()?,
        })
    }

    /// Sends a message. A service that has ended needs none.
    pub(super) fn send(&self, message: Message) {
        if self.sender.send(message).is_ok() {
            let _ = (&self.wake).write_all(&[0]);
        }
    }
}

impl Inbox {
    /// Receives the messages that have come, after the pipe has become readable.
    pub(super) fn receive(&mut self) -> Vec<Message> {
        let mut wakes = [0; 64];
        // One read: another would wait. Bytes that are left wake the service again.
        let _ = self.wake.read(&mut wakes);
        self.receiver.try_iter().collect()
    }
}

/// Control of a service by other threads.
#[derive(Debug)]
pub struct Control {
    pub(super) mailbox: Mailbox,
    pub(super) stop: Stop,
}

impl Control {
    /// Makes the service look for sandboxes, and compare all links with their cards.
    pub fn reload(&self) {
        self.mailbox.send(Message::Reload);
    }

    /// Makes the service end once the changes that are running are undone or complete.
    pub fn stop(&self) {
        self.stop.request();
        self.mailbox.send(Message::Stop);
    }
}
