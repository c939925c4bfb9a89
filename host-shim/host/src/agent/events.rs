//! Stream of the guest's events.
//!
//! A guest can send any number of them. Bytes wait in the connection, and not in this process, while the
//! caller is busy, and a pause after each message limits their rate.

use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use patchbay_codec::{Bulk, Packed, Reader};
use patchbay_types::NetEvent;
use patchbay_types::failure::{Failure, Kind};
use patchbay_wire::proto::agent::ListRoutesRequest;
use patchbay_wire::proto::conntrack::ListChunk;
use patchbay_wire::proto::events_ttrpc::EventsClient;
use patchbay_wire::{Feature, status};
use ttrpc::context::Context;

use super::list::{MESSAGE_TIMEOUT, next};
use super::{Agent, REPLY_TIMEOUT, call, protocol_error};

/// Maximum size of the messages that arrive at once: those that an agent queues, and the buffers of the connection.
const MAX_WAITING_BYTES: u32 = 8 << 20;
/// Maximum number of events in a message; an agent sends some hundred.
const MAX_EVENTS: usize = 8192;
/// Pause after each event: at most ten thousand per second.
const PAUSE: Duration = Duration::from_micros(100);
/// Number of events that a message counts as at least: a guest could send any number of empty ones.
const MIN_COUNTED: usize = 10;

impl Agent {
    /// Passes on the events of the guest's links, addresses and routes, until `each` breaks or the agent ends.
    /// The first call has no events, and shows that none is missed from then on.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] for an agent that has no events, [`Kind::NotYet`] if it has too many subscribers;
    /// an agent that has vanished, or sends something else.
    pub fn watch_events(
        &self,
        each: &mut dyn FnMut(&[NetEvent]) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        self.require(Feature::Events)?;
        let client = EventsClient::new(self.transport.clone());
        let request = ListRoutesRequest {
            max_layout: Bulk::Events.layout(),
            ..ListRoutesRequest::default()
        };
        // Without a deadline, which would end the stream.
        let begin = call::with_timeout(REPLY_TIMEOUT, client.watch(Context::default(), &request));
        let mut stream = self.runtime.block_on(begin)?;
        loop {
            self.budget.reset(MAX_WAITING_BYTES);
            let chunk = self.runtime.block_on(next(&mut stream, MESSAGE_TIMEOUT));
            let chunk =
                chunk.map_err(|error| self.budget.limit_error(status::to_failure(error)))?;
            let Some(chunk) = chunk else {
                return Ok(());
            };
            let events = events(&chunk)?;
            if each(&events).is_break() {
                return Ok(());
            }
            thread::sleep(PAUSE * u32::try_from(events.len().max(MIN_COUNTED)).unwrap_or(u32::MAX));
        }
    }
}

fn events(chunk: &ListChunk) -> Result<Vec<NetEvent>, Failure> {
    Bulk::Events.check(chunk.layout).map_err(protocol_error)?;
    let mut reader = Reader::new(&chunk.rows);
    let mut events = Vec::new();
    while !reader.is_empty() {
        if events.len() == MAX_EVENTS {
            let message = "the agent sends more events at once than are taken";
            return Err(Failure::new(Kind::Other, message));
        }
        events.push(NetEvent::unpack(&mut reader).map_err(protocol_error)?);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_message_are_limited() {
        let chunk = |layout, count| ListChunk {
            layout,
            rows: vec![0; count],
            ..ListChunk::default()
        };
        let lost = vec![NetEvent::Lost; MAX_EVENTS];
        assert_eq!(events(&chunk(0, MAX_EVENTS)), Ok(lost));
        assert_eq!(events(&chunk(0, 0)), Ok(Vec::new()));
        let failure = events(&chunk(0, MAX_EVENTS + 1)).unwrap_err();
        let message = "the agent sends more events at once than are taken";
        assert_eq!(failure.to_string(), message);
        let failure = events(&chunk(1, 1)).unwrap_err().line();
        assert!(
            failure.contains("events are read up to layout 0"),
            "{failure}"
        );
    }
}
