//! Limit of the bytes that a guest can send.
//!
//! ttrpc buffers everything that arrives for a call until the call reads it, even while the call is
//! still sending, so only the connection itself can be limited.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, ready};

use patchbay_types::failure::{Failure, Kind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that can still arrive for the current call. Clones share the budget.
#[derive(Debug, Clone)]
pub(super) struct ByteBudget(Arc<AtomicI64>);

impl ByteBudget {
    pub(super) fn new(bytes: u32) -> Self {
        Self(Arc::new(AtomicI64::new(bytes.into())))
    }

    /// Sets the budget of the next call.
    pub(super) fn reset(&self, bytes: u32) {
        self.0.store(bytes.into(), Ordering::Relaxed);
    }

    /// Replaces the failure of a call by its cause if the connection was closed for its budget.
    pub(super) fn limit_error(&self, failure: Failure) -> Failure {
        if self.is_exceeded() {
            return Failure::new(Kind::Other, "the agent sends more than an answer may have");
        }
        failure
    }

    fn is_exceeded(&self) -> bool {
        self.0.load(Ordering::Relaxed) < 0
    }

    fn spend(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A stream that fails when its budget is exceeded.
#[derive(Debug)]
pub(super) struct LimitedStream<S> {
    pub stream: S,
    pub budget: ByteBudget,
}

impl<S: AsyncRead + Unpin> AsyncRead for LimitedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.budget.spend(buffer.filled().len() - before);
        if self.budget.is_exceeded() {
            return Poll::Ready(Err(io::Error::other("the byte budget is exceeded")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LimitedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
