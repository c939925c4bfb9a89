//! Vsock listener that never calls `accept` without a pending connection.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::AsyncFd;
use vsock::{VsockAddr, VsockListener, VsockStream};

/// Listener on a vsock port, registered with the runtime.
pub(super) struct VsockAcceptor(AsyncFd<VsockListener>);

impl VsockAcceptor {
    #[expect(
        unsafe_code,
        reason = "the runtime can't know what a descriptor's owner does with it"
    )]
    pub(super) fn new(listener: VsockListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // SAFETY: the listener owns its descriptor, and neither closes nor replaces it before it is
        // dropped, which is after the registration.
        let registered = unsafe { AsyncFd::register(listener) };
        Ok(Self(registered?))
    }

    /// Returns the next connection with the peer's address.
    ///
    /// Polls before `accept`: without a pending connection other sockets return EAGAIN at once, but
    /// `vsock_accept` first sleeps to the next timer tick (up to 4 ms at 250 Hz) and blocks this
    /// thread, which serves all connections.
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(VsockStream, VsockAddr)>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            if !self.has_pending()? {
                ready.clear_ready();
                continue;
            }
            match self.0.get_ref().accept() {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                accepted => return Poll::Ready(accepted),
            }
        }
    }

    fn has_pending(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.0.get_ref().as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
    }
}

/// Waits for the next connection on one of the listeners.
pub(super) async fn accept_any(
    listeners: &[VsockAcceptor],
) -> io::Result<(VsockStream, VsockAddr)> {
    poll_fn(|context| {
        let mut all = listeners.iter();
        let accepted = all.find_map(|one| match one.poll_accept(context) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        });
        accepted.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
