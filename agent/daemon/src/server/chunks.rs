//! Streams of packed rows.

use std::fmt::Display;
use std::ops::ControlFlow;
use std::time::Duration;

use patchbay_wire::proto::conntrack::ListChunk;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;
use ttrpc::r#async::ServerStreamSender;
use ttrpc::proto::Codec;

/// Size of a message, so that neither side holds a whole table twice.
const CHUNK_BYTES: usize = 32 << 10;
/// Maximum number of chunks queued for the host.
const QUEUE_DEPTH: usize = 2;
/// Interval of empty messages while the kernel returns no rows. The host gives up on an agent that
/// sends nothing for four times as long.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Collects packed rows and queues them in chunks.
pub(super) struct RowStream {
    rows: Vec<u8>,
    sender: Sender<Vec<u8>>,
}

impl RowStream {
    /// Creates a stream and the receiver of its chunks.
    pub(super) fn channel() -> (Self, Receiver<Vec<u8>>) {
        let (sender, chunks) = mpsc::channel(QUEUE_DEPTH);
        let rows = Vec::new();
        (Self { rows, sender }, chunks)
    }

    /// Adds a row; breaks if the host has disconnected.
    pub(super) fn push(&mut self, pack: impl FnOnce(&mut Vec<u8>)) -> ControlFlow<()> {
        pack(&mut self.rows);
        if self.rows.len() < CHUNK_BYTES {
            return ControlFlow::Continue(());
        }
        self.send()
    }

    /// Returns whether no row waits for [`RowStream::send`].
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns whether the host has disconnected.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Queues the remaining rows.
    pub(super) fn send(&mut self) -> ControlFlow<()> {
        match self.sender.blocking_send(std::mem::take(&mut self.rows)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// Sends each chunk with its layout.
pub(super) async fn relay_rows(
    chunks: Receiver<Vec<u8>>,
    stream: ServerStreamSender<ListChunk>,
    layout: u32,
) -> ttrpc::Result<()> {
    let message = move |rows| ListChunk {
        rows,
        layout,
        ..ListChunk::default()
    };
    relay(chunks, stream, message).await
}

/// Sends each chunk as a message.
pub(super) async fn relay<M: Codec<E: Display>>(
    mut chunks: Receiver<Vec<u8>>,
    stream: ServerStreamSender<M>,
    message: impl Fn(Vec<u8>) -> M,
) -> ttrpc::Result<()> {
    while let Some(rows) = next(&mut chunks, KEEPALIVE).await {
        stream.send(&message(rows)).await?;
    }
    Ok(())
}

/// Returns the next chunk, an empty one after `interval`, `None` after the last.
async fn next(chunks: &mut Receiver<Vec<u8>>, interval: Duration) -> Option<Vec<u8>> {
    match timeout(interval, chunks.recv()).await {
        Ok(chunk) => chunk,
        Err(_) => Some(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_dump_sends_keepalive() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            let interval = Duration::from_millis(20);
            let (sender, mut chunks) = mpsc::channel(QUEUE_DEPTH);
            assert_eq!(next(&mut chunks, interval).await, Some(Vec::new()));
            sender.send(vec![7]).await.unwrap();
            assert_eq!(next(&mut chunks, interval).await, Some(vec![7]));
            drop(sender);
            assert_eq!(next(&mut chunks, interval).await, None);
        });
    }
}
