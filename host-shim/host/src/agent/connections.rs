//! Calls about the connections of IPVS servers.

use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{ConnectionCount, DrainProgress, ServerFilter};
use patchbay_wire::convert::ipvs_servers as convert;
use patchbay_wire::{Feature, status};

use super::list::next;
use super::{Agent, Call, Effect};

const CALL: Call = Call::short(Feature::EndConnections);
/// Time for the end of connections: the agent gives up after about half of it.
const END_TIMEOUT: Duration = Duration::from_secs(60);

impl Agent {
    /// Counts the connections of servers; `None` if the agent can't.
    ///
    /// # Errors
    /// The agent's.
    pub fn count_connections(
        &self,
        servers: &[ServerFilter],
    ) -> Result<Option<ConnectionCount>, Failure> {
        if !self.greeting()?.has(Feature::EndConnections) {
            return Ok(None);
        }
        let client = self.ipvs_client();
        let request = convert::count_request(servers);
        let reply = self.call(CALL.reading(), |context| {
            client.count_connections(context, &request)
        })?;
        Ok(Some((&reply).into()))
    }

    /// Ends the connections of servers and returns their number. With a `drain`, first sets their weights
    /// to 0 and waits, at most for that time, until no connection is active; if this process ends
    /// meanwhile, the agent restores the weights.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] for an agent that can't; the agent's, after which the rules are as they were.
    pub fn end_connections(
        &self,
        servers: &[ServerFilter],
        drain: Option<Duration>,
        progress: &mut dyn FnMut(DrainProgress),
    ) -> Result<u32, Failure> {
        let client = self.ipvs_client();
        let request = convert::end_request(servers, drain);
        let effect = match drain {
            // If this process ends, the agent restores the weights.
            Some(_) => Effect::Marked,
            None => Effect::Changes,
        };
        let limits = CALL
            .with_timeout(drain.unwrap_or_default() + END_TIMEOUT)
            .with_effect(effect);
        self.call(limits, |context| async move {
            let mut stream = client.end_connections(context, &request).await?;
            while let Some(chunk) = next(&mut stream, END_TIMEOUT).await? {
                if chunk.last {
                    return Ok(chunk.ended);
                }
                progress((&chunk).into());
            }
            let failure = Failure::new(Kind::Other, "the agent gave no result");
            Err(status::from_failure(&failure))
        })
    }
}
