//! Where connections come from, and which are turned away.

use std::io;
use std::time::Duration;

use futures::stream;
use slog::{Logger, warn};
use tokio::net::UnixListener;
use tokio_vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockAddr, VsockListener};
use ttrpc::r#async::transport::{Listener, Socket};

use super::Error;
use crate::config::Listen;

/// Pause after `accept` failed: out of descriptors, it would fail again at once.
const PAUSE: Duration = Duration::from_millis(100);

enum Bound {
    Vsock(VsockListener),
    Unix(UnixListener),
}

impl Bound {
    fn new(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Vsock(port) => {
                VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, *port)).map(Bound::Vsock)
            }
            Listen::Unix(path) => {
                // Left by an agent that was killed; nobody else serves at a path given to us.
                let _ = std::fs::remove_file(path);
                UnixListener::bind(path).map(Bound::Unix)
            }
        }
    }

    /// The next connection of the host.
    async fn accept(&self, log: &Logger) -> io::Result<Socket> {
        loop {
            match self {
                Bound::Unix(listener) => return Ok(listener.accept().await?.0.into()),
                Bound::Vsock(listener) => {
                    let (stream, peer) = listener.accept().await?;
                    if peer.cid() == VMADDR_CID_HOST {
                        return Ok(stream.into());
                    }
                    // A container in this guest reaches the port over loopback, as another CID.
                    warn!(log, "connection refused: not from the host"; "cid" => peer.cid());
                }
            }
        }
    }
}

/// Takes the place and turns it into ttrpc's stream of connections, which never ends.
pub(super) fn listener(listen: &Listen, log: &Logger) -> Result<Listener, Error> {
    let bound = Bound::new(listen).map_err(|source| Error::Bind {
        place: format!("{listen:?}"),
        source,
    })?;
    let connections = stream::unfold((bound, log.clone()), |(bound, log)| async move {
        let accepted = bound.accept(&log).await;
        if accepted.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        Some((accepted, (bound, log)))
    });
    Ok(Listener::new(connections))
}
