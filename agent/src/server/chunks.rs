//! Rows on their way into the messages of a stream.

use std::fmt::Display;
use std::ops::ControlFlow;

use tokio::sync::mpsc::{self, Receiver, Sender};
use ttrpc::r#async::ServerStreamSender;
use ttrpc::proto::Codec;

/// From how many bytes on a message goes: neither side has to hold a whole table twice.
const CHUNK: usize = 32 << 10;
/// Most chunks that wait for the host to read them.
const AHEAD: usize = 2;

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
    while let Some(rows) = chunks.recv().await {
        stream.send(&message(rows)).await?;
    }
    Ok(())
}
