//! Rows on their way into the messages of a stream.

use std::fmt::Display;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;
use ttrpc::r#async::ServerStreamSender;
use ttrpc::proto::Codec;

/// From how many bytes on a message goes: neither side has to hold a whole table twice.
const CHUNK: usize = 32 << 10;
/// Most chunks that wait for the host to read them.
const AHEAD: usize = 2;
/// So often the host gets a message without rows while the kernel has none: it leaves an agent that
/// is silent for four times as long.
const BEAT: Duration = Duration::from_secs(5);

/// Gathers packed rows, and hands them on when there are enough for a message.
pub(super) struct Chunks {
    rows: Vec<u8>,
    sender: Sender<Vec<u8>>,
}

impl Chunks {
    /// With the end where messages are made of them.
    pub(super) fn channel() -> (Self, Receiver<Vec<u8>>) {
        let (sender, chunks) = mpsc::channel(AHEAD);
        let rows = Vec::new();
        (Self { rows, sender }, chunks)
    }

    /// Breaks when the host has gone.
    pub(super) fn push(&mut self, pack: impl FnOnce(&mut Vec<u8>)) -> ControlFlow<()> {
        pack(&mut self.rows);
        if self.rows.len() < CHUNK {
            return ControlFlow::Continue(());
        }
        self.send()
    }

    /// The rows that are left.
    pub(super) fn send(&mut self) -> ControlFlow<()> {
        match self.sender.blocking_send(std::mem::take(&mut self.rows)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// Sends the chunks as messages while they come.
pub(super) async fn relay<M: Codec<E: Display>>(
    mut chunks: Receiver<Vec<u8>>,
    stream: ServerStreamSender<M>,
    message: impl Fn(Vec<u8>) -> M,
) -> ttrpc::Result<()> {
    while let Some(rows) = next(&mut chunks, BEAT).await {
        stream.send(&message(rows)).await?;
    }
    Ok(())
}

/// The next chunk, an empty one if there is none in time; `None` after the last.
async fn next(chunks: &mut Receiver<Vec<u8>>, beat: Duration) -> Option<Vec<u8>> {
    match timeout(beat, chunks.recv()).await {
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
            let beat = Duration::from_millis(20);
            let (sender, mut chunks) = mpsc::channel(AHEAD);
            assert_eq!(next(&mut chunks, beat).await, Some(Vec::new()));
            sender.send(vec![7]).await.unwrap();
            assert_eq!(next(&mut chunks, beat).await, Some(vec![7]));
            drop(sender);
            assert_eq!(next(&mut chunks, beat).await, None);
        });
    }
}
