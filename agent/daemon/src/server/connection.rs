//! Connections that hold a slot of the connection limit and have an idle timeout.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// Longer than the longest call, during which the connection is idle too.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Stream with its slot of the connection limit. A read fails after [`IDLE_TIMEOUT`] without traffic.
#[derive(Debug)]
pub(super) struct LimitedConnection<S> {
    stream: S,
    idle: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
}

impl<S> LimitedConnection<S> {
    /// Starts the idle timer; must be called within the runtime.
    pub(super) fn new(stream: S, slot: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            idle: Box::pin(tokio::time::sleep(IDLE_TIMEOUT)),
            _slot: slot,
        }
    }

    fn restart_idle_timer(&mut self) {
        self.idle.as_mut().reset(Instant::now() + IDLE_TIMEOUT);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LimitedConnection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.restart_idle_timer();
            return read;
        }
        let idle = self.idle.as_mut().poll(context);
        idle.map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LimitedConnection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_ready() {
            self.restart_idle_timer();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn connection_carries_bytes_and_frees_slot_on_drop() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let slots = Arc::new(Semaphore::new(1));
            let (server, mut client) = UnixStream::pair().unwrap();
            let slot = Arc::clone(&slots).try_acquire_owned().unwrap();
            let mut connection = LimitedConnection::new(server, slot);
            assert!(Arc::clone(&slots).try_acquire_owned().is_err());
            client.write_all(b"ab").await.unwrap();
            let mut bytes = [0; 2];
            connection.read_exact(&mut bytes).await.unwrap();
            connection.write_all(&bytes).await.unwrap();
            client.read_exact(&mut bytes).await.unwrap();
            drop(connection);
            assert!(slots.try_acquire_owned().is_ok());
        });
    }
}
