//! Lists that an agent streams, limited in time and memory.
//!
//! The whole list can take minutes, since a kernel can need them. A guest that sends it byte by byte,
//! or stops in the middle, is abandoned long before.

use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_wire::status;
use ttrpc::r#async::ClientStreamReceiver;
use ttrpc::proto::Codec;

/// Timeout for the next message. An agent sends an empty one every five seconds while its kernel is
/// busy.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout for the first message of the connection table, which an agent reads completely before it
/// sends anything. The kernel restarts from the beginning of the table for every 4 KiB.
pub(super) const FIRST_CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);

/// Maximum size of a list on the wire: half a million services.
pub(super) const MAX_LIST_BYTES: u32 = 64 << 20;
/// Maximum number of messages of a list. An agent fills most of them with some KiB; small ones cost more time than
/// their bytes do.
const MAX_MESSAGES: u32 = MAX_LIST_BYTES / 1024;
/// Maximum size of a list in memory, where a value takes about ten times as much as on the wire.
const MAX_MEMORY_BYTES: usize = 128 << 20;

/// Values of a list that have arrived.
pub(super) struct List<T> {
    pub(super) values: Vec<T>,
    bytes: usize,
}

impl<T> List<T> {
    /// Accounts for `bytes` of memory.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        if self.bytes <= MAX_MEMORY_BYTES {
            return Ok(());
        }
        let message = "the guest lists more than is taken: 128 MiB of rows";
        Err(Failure::new(Kind::Other, message))
    }

    /// Appends a value of `bytes`.
    pub(super) fn push(&mut self, value: T, bytes: usize) -> Result<(), Failure> {
        self.grow(bytes)?;
        self.values.push(value);
        Ok(())
    }
}

/// Reads a stream to its end, or to the first invalid message.
pub(super) async fn collect<M: Codec<E: std::fmt::Display>, T>(
    mut stream: ClientStreamReceiver<M>,
    first_timeout: Duration,
    append: impl Fn(&mut List<T>, &M) -> Result<(), Failure>,
) -> ttrpc::Result<Result<Vec<T>, Failure>> {
    let mut list = List {
        values: Vec::new(),
        bytes: 0,
    };
    let mut timeout = first_timeout;
    let mut messages = 0;
    while let Some(message) = next(&mut stream, timeout).await? {
        timeout = MESSAGE_TIMEOUT;
        messages += 1;
        if messages > MAX_MESSAGES {
            let message = "the agent sends more messages than a list may have";
            return Ok(Err(Failure::new(Kind::Other, message)));
        }
        if let Err(failure) = append(&mut list, &message) {
            return Ok(Err(failure));
        }
    }
    Ok(Ok(list.values))
}

/// Returns the next message of a stream.
pub(super) async fn next<M: Codec<E: std::fmt::Display>>(
    stream: &mut ClientStreamReceiver<M>,
    timeout: Duration,
) -> ttrpc::Result<Option<M>> {
    let received = tokio::time::timeout(timeout, stream.recv()).await;
    received.unwrap_or_else(|_| {
        let seconds = timeout.as_secs();
        let message = format!("the agent sent nothing more for {seconds} s");
        Err(status::from_failure(&Failure::new(Kind::Timeout, message)))
    })
}
