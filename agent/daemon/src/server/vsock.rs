//! Connections through vsock.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, Backlog};
use tokio::io::unix::AsyncFd;
use vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

/// A port that takes connections to any CID of this guest.
pub(super) struct Port(AsyncFd<VsockListener>);

impl Port {
    #[expect(
        unsafe_code,
        reason = "the runtime can't know what a descriptor's owner does with it"
    )]
    pub(super) fn listen(port: u32) -> io::Result<Self> {
        let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
        // With the library's 128 a container that connects without pause fills the queue, and the
        // host is turned away by the kernel.
        socket::listen(&listener, Backlog::MAXCONN)?;
        listener.set_nonblocking(true)?;
        // SAFETY: the listener owns its descriptor, and neither closes nor replaces it before it is
        // dropped, which is after the registration.
        let registered = unsafe { AsyncFd::register(listener) };
        Ok(Self(registered?))
    }

    /// The next connection and where it is from.
    ///
    /// The kernel is never asked for one that isn't there: where other sockets answer EAGAIN at once,
    /// its `vsock_accept` first sleeps to the next timer tick (up to 4 ms at 250 Hz), and all that
    /// this thread serves sleeps with it.
    pub(super) async fn accept(&self) -> io::Result<(VsockStream, VsockAddr)> {
        loop {
            let mut ready = self.0.readable().await?;
            if !self.is_anybody_there()? {
                ready.clear_ready();
                continue;
            }
            match self.0.get_ref().accept() {
                Ok(connection) => return Ok(connection),
                Err(gone)
                    if matches!(gone.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn is_anybody_there(&self) -> io::Result<bool> {
        let mut port = [PollFd::new(self.0.get_ref().as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut port, PollTimeout::ZERO)? > 0)
    }
}
