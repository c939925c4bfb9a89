//! A connection that counts, and that ends when nothing comes or goes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// Longest silence: longer than the longest call, during which nothing comes or goes either.
const SILENCE: Duration = Duration::from_secs(600);

/// A stream with its place among those that there may be.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    silent: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl<S> Guarded<S> {
    /// Within the runtime.
    pub(super) fn new(stream: S, place: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            silent: Box::pin(tokio::time::sleep(SILENCE)),
            _place: place,
        }
    }

    fn heard(&mut self) {
        self.silent.as_mut().reset(Instant::now() + SILENCE);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.heard();
            return read;
        }
        let silent = self.silent.as_mut().poll(context);
        silent.map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_ready() {
            self.heard();
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
    fn a_connection_gives_its_place_back_and_carries_bytes() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let free = Arc::new(Semaphore::new(1));
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let place = Arc::clone(&free).try_acquire_owned().unwrap();
            let mut guarded = Guarded::new(ours, place);
            assert!(Arc::clone(&free).try_acquire_owned().is_err());
            theirs.write_all(b"ab").await.unwrap();
            let mut bytes = [0; 2];
            guarded.read_exact(&mut bytes).await.unwrap();
            guarded.write_all(&bytes).await.unwrap();
            theirs.read_exact(&mut bytes).await.unwrap();
            drop(guarded);
            assert!(free.try_acquire_owned().is_ok());
        });
    }
}
