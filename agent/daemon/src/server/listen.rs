//! Accepts connections, rejects strangers and enforces the connection limit.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::vsock::VsockAddr;
use futures::stream;
use slog::{Logger, warn};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task;
use tokio_vsock::VsockStream;
use ttrpc::r#async::transport::{Listener, Socket};

use super::Error;
use super::connection::LimitedConnection;
use super::host_port::HostPort;
use super::vsock::{self, VsockAcceptor};
use crate::listeners::Listeners;

/// Pause after `accept` failed: without free descriptors it would fail again at once.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Connection limit. A command of the host holds one connection for as long as it runs.
const MAX_CONNECTIONS: usize = 64;

/// Rejected connections are logged at most once per interval.
const REJECT_LOG_INTERVAL: Duration = Duration::from_secs(1);

enum Bound {
    Vsock(Vec<VsockAcceptor>),
    Unix(UnixListener),
}

impl Bound {
    fn new(listeners: Listeners) -> io::Result<Self> {
        Ok(match listeners {
            Listeners::Vsock(all) => {
                let all: Result<_, _> = all.into_iter().map(VsockAcceptor::new).collect();
                Bound::Vsock(all?)
            }
            Listeners::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Bound::Unix(UnixListener::from_std(listener)?)
            }
        })
    }

    /// Accepts the next connection; the inner error is the address of a peer other than the host.
    async fn accept(&self, host: HostPort) -> io::Result<Result<Accepted, VsockAddr>> {
        match self {
            Bound::Unix(listener) => Ok(Ok(Accepted::Unix(listener.accept().await?.0))),
            Bound::Vsock(listeners) => {
                let (stream, peer) = vsock::accept_any(listeners).await?;
                if host.is(peer) {
                    return VsockStream::new(stream).map(|stream| Ok(Accepted::Vsock(stream)));
                }
                // A container in this guest reaches the port over loopback, with another CID.
                Ok(Err(peer))
            }
        }
    }
}

enum Accepted {
    Unix(UnixStream),
    Vsock(VsockStream),
}

/// Accepts the host's connections up to the limit and rejects all others.
struct Acceptor {
    bound: Bound,
    host: HostPort,
    slots: Arc<Semaphore>,
    log: Logger,
    rejects: RejectLog,
}

impl Acceptor {
    fn new(bound: Bound, host: HostPort, limit: usize, log: &Logger) -> Self {
        Self {
            bound,
            host,
            slots: Arc::new(Semaphore::new(limit)),
            log: log.clone(),
            rejects: RejectLog::default(),
        }
    }

    async fn next(&mut self) -> io::Result<Socket> {
        loop {
            let accepted = match self.bound.accept(self.host).await? {
                Ok(accepted) => accepted,
                Err(peer) => {
                    self.reject("not from the host", Some(peer)).await;
                    continue;
                }
            };
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
                self.reject("connection limit reached", None).await;
                continue;
            };
            return Ok(match accepted {
                Accepted::Unix(stream) => Socket::new(LimitedConnection::new(stream, slot)),
                Accepted::Vsock(stream) => Socket::new(LimitedConnection::new(stream, slot)),
            });
        }
    }

    async fn reject(&mut self, why: &'static str, peer: Option<VsockAddr>) {
        if let Some(refused) = self.rejects.count(Instant::now()) {
            let (cid, port) = peer.map(|peer| (peer.cid(), peer.port())).unzip();
            warn!(self.log, "connection refused"; "why" => why, "cid" => cid, "port" => port,
                "refused" => refused);
        }
        // Without this a backlog full of strangers is drained before any request of the host.
        task::yield_now().await;
    }
}

/// Rate limit of the log lines about rejected connections.
#[derive(Debug, Default)]
struct RejectLog {
    pending: u64,
    last_logged: Option<Instant>,
}

impl RejectLog {
    /// Counts a rejected connection. Returns the number since the last line when a line is due.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.pending += 1;
        let recent = |last| now - last < REJECT_LOG_INTERVAL;
        if self.last_logged.is_some_and(recent) {
            return None;
        }
        self.last_logged = Some(now);
        Some(std::mem::take(&mut self.pending))
    }
}

/// Waits until no connection has a slot, checking at this interval: ttrpc reports no end.
pub(super) async fn idle(slots: &Semaphore, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        if slots.available_permits() == MAX_CONNECTIONS {
            return;
        }
    }
}

/// Returns ttrpc's stream of connections, which never ends, and the slots of the connections.
pub(super) fn listener(
    listeners: Listeners,
    host: HostPort,
    log: &Logger,
) -> Result<(Listener, Arc<Semaphore>), Error> {
    let bound = Bound::new(listeners).map_err(Error::Register)?;
    let acceptor = Acceptor::new(bound, host, MAX_CONNECTIONS, log);
    let slots = Arc::clone(&acceptor.slots);
    let connections = stream::unfold(acceptor, |mut acceptor| async move {
        let socket = acceptor.next().await;
        if socket.is_err() {
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
        }
        Some((socket, acceptor))
    });
    Ok((Listener::new(connections), slots))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn reject_log_reports_once_per_interval() {
        let mut rejects = RejectLog::default();
        let start = Instant::now();
        assert_eq!(rejects.count(start), Some(1));
        for _ in 0..1000 {
            assert_eq!(rejects.count(start + REJECT_LOG_INTERVAL / 2), None);
        }
        assert_eq!(rejects.count(start + REJECT_LOG_INTERVAL), Some(1001));
    }

    #[test]
    fn acceptor_at_limit_rejects_until_slot_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            let bound = Bound::new(Listeners::Unix(listener)).unwrap();
            let log = Logger::root(slog::Discard, slog::o!());
            let mut acceptor = Acceptor::new(bound, HostPort::Any, 2, &log);
            let _first = UnixStream::connect(&path).await.unwrap();
            let _second = UnixStream::connect(&path).await.unwrap();
            let first = acceptor.next().await.unwrap();
            let _kept = acceptor.next().await.unwrap();
            let mut third = UnixStream::connect(&path).await.unwrap();
            let rejected = async { third.read(&mut [0]).await };
            tokio::select! {
                _ = acceptor.next() => panic!("the limit is exceeded"),
                read = rejected => assert_eq!(read.unwrap(), 0),
            }
            drop(first);
            let _fourth = UnixStream::connect(&path).await.unwrap();
            acceptor.next().await.unwrap();
        });
    }
}
