//! Where connections come from, and which are turned away.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream;
use slog::{Logger, warn};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task;
use tokio_vsock::{VMADDR_CID_HOST, VsockStream};
use ttrpc::r#async::transport::{Listener, Socket};

use super::Error;
use super::guarded::Guarded;
use super::vsock;
use crate::config::Listen;

/// Pause after `accept` failed: out of descriptors, it would fail again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Most connections at once; a command of the host has one, for as long as it runs.
const CONNECTIONS: usize = 64;

/// Who is turned away is told of once in this time, however many there are.
const COMPLAINT: Duration = Duration::from_secs(1);

enum Bound {
    Vsock(vsock::Port),
    Unix(UnixListener),
}

impl Bound {
    fn new(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Vsock(port) => vsock::Port::listen(*port).map(Bound::Vsock),
            Listen::Unix(path) => {
                // Left by an agent that was killed; nobody else serves at a path given to us.
                let _ = std::fs::remove_file(path);
                UnixListener::bind(path).map(Bound::Unix)
            }
        }
    }

    /// The next connection of the host, or the CID of somebody else's.
    async fn accept(&self) -> io::Result<Result<Arrived, u32>> {
        match self {
            Bound::Unix(listener) => Ok(Ok(Arrived::Unix(listener.accept().await?.0))),
            Bound::Vsock(port) => {
                let (stream, peer) = port.accept().await?;
                if peer.cid() == VMADDR_CID_HOST {
                    return VsockStream::new(stream).map(|stream| Ok(Arrived::Vsock(stream)));
                }
                // A container in this guest reaches the port over loopback, as another CID.
                Ok(Err(peer.cid()))
            }
        }
    }
}

enum Arrived {
    Unix(UnixStream),
    Vsock(VsockStream),
}

/// Lets connections in.
struct Door {
    bound: Bound,
    free: Arc<Semaphore>,
    log: Logger,
    complaints: Complaints,
}

impl Door {
    fn new(bound: Bound, places: usize, log: &Logger) -> Self {
        Self {
            bound,
            free: Arc::new(Semaphore::new(places)),
            log: log.clone(),
            complaints: Complaints::default(),
        }
    }

    async fn next(&mut self) -> io::Result<Socket> {
        loop {
            let arrived = match self.bound.accept().await? {
                Ok(arrived) => arrived,
                Err(cid) => {
                    self.turn_away("not from the host", Some(cid)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.free).try_acquire_owned() else {
                self.turn_away("there are too many", None).await;
                continue;
            };
            return Ok(match arrived {
                Arrived::Unix(stream) => Socket::new(Guarded::new(stream, place)),
                Arrived::Vsock(stream) => Socket::new(Guarded::new(stream, place)),
            });
        }
    }

    async fn turn_away(&mut self, why: &'static str, cid: Option<u32>) {
        if let Some(refused) = self.complaints.due(Instant::now()) {
            warn!(self.log, "connection refused"; "why" => why, "cid" => cid, "refused" => refused);
        }
        // A queue full of strangers would otherwise be worked off before any request of the host.
        task::yield_now().await;
    }
}

/// Counts who was turned away, and says when it is time to tell.
#[derive(Debug, Default)]
struct Complaints {
    refused: u64,
    told: Option<Instant>,
}

impl Complaints {
    /// How many there were since the last time, if that is long enough ago.
    fn due(&mut self, now: Instant) -> Option<u64> {
        self.refused += 1;
        if self.told.is_some_and(|told| now - told < COMPLAINT) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.refused))
    }
}

/// Takes the place and turns it into ttrpc's stream of connections, which never ends.
pub(super) fn listener(listen: &Listen, log: &Logger) -> Result<Listener, Error> {
    let bound = Bound::new(listen).map_err(|source| Error::Bind {
        place: format!("{listen:?}"),
        source,
    })?;
    let door = Door::new(bound, CONNECTIONS, log);
    let connections = stream::unfold(door, |mut door| async move {
        let accepted = door.next().await;
        if accepted.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        Some((accepted, door))
    });
    Ok(Listener::new(connections))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn a_flood_is_told_of_once_a_second() {
        let mut complaints = Complaints::default();
        let begun = Instant::now();
        assert_eq!(complaints.due(begun), Some(1));
        for _ in 0..1000 {
            assert_eq!(complaints.due(begun + COMPLAINT / 2), None);
        }
        assert_eq!(complaints.due(begun + COMPLAINT), Some(1001));
    }

    #[test]
    fn one_too_many_is_turned_away_until_another_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let bound = Bound::new(&Listen::Unix(path.clone())).unwrap();
            let log = Logger::root(slog::Discard, slog::o!());
            let mut door = Door::new(bound, 2, &log);
            let _first = UnixStream::connect(&path).await.unwrap();
            let _second = UnixStream::connect(&path).await.unwrap();
            let first = door.next().await.unwrap();
            let _kept = door.next().await.unwrap();
            let mut third = UnixStream::connect(&path).await.unwrap();
            let refused = async { third.read(&mut [0]).await };
            tokio::select! {
                _ = door.next() => panic!("there is no place"),
                refused = refused => assert_eq!(refused.unwrap(), 0),
            }
            drop(first);
            let _fourth = UnixStream::connect(&path).await.unwrap();
            door.next().await.unwrap();
        });
    }
}
