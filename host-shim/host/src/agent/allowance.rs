//! How much a guest may send.
//!
//! ttrpc keeps what has come for a call until the call takes it, however much it is and even while
//! the call is still sending: only the connection itself can be bounded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, ready};

use patchbay_types::failure::{Failure, Kind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What of the answers of one call may still come, in bytes. Clones are the same allowance.
#[derive(Debug, Clone)]
pub(super) struct Allowance(Arc<AtomicI64>);

impl Allowance {
    pub(super) fn of(bytes: u32) -> Self {
        Self(Arc::new(AtomicI64::new(bytes.into())))
    }

    /// Begins anew, for another call.
    pub(super) fn renew(&self, bytes: u32) {
        self.0.store(bytes.into(), Ordering::Relaxed);
    }

    /// Why a call failed: the connection is given up with the allowance.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        if self.is_overdrawn() {
            return Failure::new(Kind::Other, "the agent sends more than an answer may have");
        }
        failure
    }

    fn is_overdrawn(&self) -> bool {
        self.0.load(Ordering::Relaxed) < 0
    }

    fn spend(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A stream that breaks when its allowance is overdrawn.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    pub stream: S,
    pub allowance: Allowance,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.allowance.spend(buffer.filled().len() - before);
        if self.allowance.is_overdrawn() {
            return Poll::Ready(Err(io::Error::other("the allowance is overdrawn")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
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
