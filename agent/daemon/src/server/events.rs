//! RPC of events.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use patchbay_codec::{Bulk, Packed};
use patchbay_types::failure::{Failure, Kind};
use patchbay_wire::proto::agent::ListRoutesRequest;
use patchbay_wire::proto::conntrack::ListChunk;
use patchbay_wire::proto::events_ttrpc::Events;
use patchbay_wire::status;
use tokio::sync::Semaphore;
use ttrpc::r#async::{ServerStreamSender, TtrpcContext};

use super::chunks::{RowStream, relay_rows};
use super::handlers::Handlers;

/// Maximum number of subscribers; each has a thread, as every request.
const MAX_SUBSCRIBERS: usize = 8;
/// Interval in which a subscriber's thread looks whether the host is still there.
const HOST_CHECK: Duration = Duration::from_secs(1);
/// Pause after each chunk of events. In a flood most events are lost in the kernel's buffer, and the
/// agent is there for other requests.
const PAUSE: Duration = Duration::from_millis(20);

/// Service of events.
pub(super) struct EventService {
    handlers: Arc<Handlers>,
    subscribers: Arc<Semaphore>,
}

impl EventService {
    pub(super) fn new(handlers: Arc<Handlers>) -> Self {
        Self {
            handlers,
            subscribers: Arc::new(Semaphore::new(MAX_SUBSCRIBERS)),
        }
    }
}

#[async_trait]
impl Events for EventService {
    async fn watch(
        &self,
        context: &TtrpcContext,
        request: ListRoutesRequest,
        stream: ServerStreamSender<ListChunk>,
    ) -> ttrpc::Result<()> {
        let subscriber = Arc::clone(&self.subscribers).try_acquire_owned();
        let subscriber = subscriber.map_err(|_| {
            let message =
                format!("the agent has {MAX_SUBSCRIBERS} subscribers of events, and takes no more");
            status::from_failure(&Failure::new(Kind::NotYet, message))
        })?;
        let layout = request.max_layout.min(Bulk::Events.layout());
        let (mut packed, chunks) = RowStream::channel();
        let read = self
            .handlers
            .run(("events_watch", context), move |netcfg, _| {
                // It ends with the thread, which outlives the call by up to the interval of the check.
                let _subscriber = subscriber;
                let mut events = netcfg.events()?;
                // The host learns that it is subscribed.
                while packed.send().is_continue() {
                    while packed.is_empty() && !packed.is_closed() {
                        let mut each = |event: &_| packed.push(|rows| Packed::pack(event, rows));
                        events.next(HOST_CHECK, &mut each)?;
                    }
                    thread::sleep(PAUSE);
                }
                Ok(())
            });
        let send = relay_rows(chunks, stream, layout);
        tokio::try_join!(read, send).map(|_| ())
    }
}
