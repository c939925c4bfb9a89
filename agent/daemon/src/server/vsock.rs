//! Vsock listener that never calls `accept` without a pending connection.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, Backlog};
use tokio::io::unix::AsyncFd;
use vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

/// Listener on a vsock port, for any CID of this guest.
pub(super) struct VsockAcceptor(AsyncFd<VsockListener>);

impl VsockAcceptor {
    #[expect(
        unsafe_code,
        reason = "the runtime can't know what a descriptor's owner does with it"
    )]
    pub(super) fn listen(port: u32) -> io::Result<Self> {
        let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
        // The crate's backlog of 128 is filled by one container that connects in a loop; the kernel
        // then rejects the host.
        socket::listen(&listener, Backlog::MAXCONN)?;
        listener.set_nonblocking(true)?;
        // SAFETY: the listener owns its descriptor, and neither closes nor replaces it before it is
        // dropped, which is after the registration.
        let registered = unsafe { AsyncFd::register(listener) };
        Ok(Self(registered?))
    }

    /// Waits for the next connection and returns it with the peer's address.
    ///
    /// Polls before `accept`: without a pending connection other sockets return EAGAIN at once, but
    /// `vsock_accept` first sleeps to the next timer tick (up to 4 ms at 250 Hz) and blocks this
    /// thread, which serves all connections.
    pub(super) async fn accept(&self) -> io::Result<(VsockStream, VsockAddr)> {
        loop {
            let mut ready = self.0.readable().await?;
            if !self.has_pending()? {
                ready.clear_ready();
                continue;
            }
            match self.0.get_ref().accept() {
                Ok(connection) => return Ok(connection),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn has_pending(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.0.get_ref().as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
    }
}
