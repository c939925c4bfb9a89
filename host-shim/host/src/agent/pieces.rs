//! How long the messages of a list may be in coming.
//!
//! The whole list has minutes, since a kernel may need them. A guest that sends it byte by byte, or
//! falls silent in the middle, is left long before.

use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_wire::status;
use ttrpc::r#async::ClientStreamReceiver;
use ttrpc::proto::Codec;

/// Longest wait for the next whole message. While its kernel is at work an agent sends an empty one
/// every five seconds.
pub(super) const PIECE: Duration = Duration::from_secs(20);
/// The same for the first message of what an agent gathers before it sends anything: connections,
/// through which the kernel goes from the beginning for every 4 KiB of them.
pub(super) const GATHERED: Duration = Duration::from_secs(120);

/// The next message, or `None` after the last.
pub(super) async fn next<T: Codec<E: std::fmt::Display>>(
    stream: &mut ClientStreamReceiver<T>,
    patience: Duration,
) -> ttrpc::Result<Option<T>> {
    let received = tokio::time::timeout(patience, stream.recv()).await;
    received.unwrap_or_else(|_| {
        let seconds = patience.as_secs();
        let sentence = format!("the agent sent no more of its list for {seconds} s");
        Err(status::from_failure(&Failure::new(Kind::Timeout, sentence)))
    })
}
