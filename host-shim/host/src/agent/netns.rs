//! Agents in other network namespaces of the guest.

use std::time::Duration;

use patchbay_types::GuestNetns;
use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};
use patchbay_wire::Feature;
use patchbay_wire::convert::enter_netns_request;

use super::{Agent, Call};

/// The agent starts another process.
const CALL: Call = Call::short(Feature::Netns).with_timeout(Duration::from_secs(60));

impl Agent {
    /// Connects to the agent of another network namespace of the guest, which this agent starts.
    ///
    /// # Errors
    /// [`Kind::NotFound`] and [`Kind::Invalid`] without such a namespace, [`Kind::Unsupported`] for an
    /// agent that can't, or that has no VM.
    pub fn in_netns(&self, netns: &GuestNetns) -> Result<Self, Failure> {
        if let Endpoint::Unix(_) = self.endpoint {
            let message = "an agent at a Unix socket serves only its own network namespace";
            return Err(Failure::new(Kind::Unsupported, message));
        }
        let request = enter_netns_request(netns);
        let enter = || {
            let call = |context| self.client.enter_netns(context, &request);
            let port = self.call(CALL, call)?.port;
            Ok::<_, Failure>(self.endpoint.clone().at_port(port))
        };
        match Self::connect(&enter()?, &self.interrupt) {
            // The agent there has ended, because it was idle, since it was found.
            Err(failure) if failure.kind() == Kind::NotFound => {
                Self::connect(&enter()?, &self.interrupt)
            }
            connected => connected,
        }
    }
}
