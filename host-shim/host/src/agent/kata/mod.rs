//! Kata's own agent (`AgentService` of its `agent.proto`), for guests without patchbay's.
//!
//! Checked against the sources of Kata 2.5 to 4.1 (docs/kata.md). It reports neither PCI paths, queues, ARP nor
//! whether an interface is up; it deletes neither neighbors nor, since 3.15, addresses and routes; and it sets
//! an interface down to change it, which takes the routes through it away. A request that would need more
//! is refused before anything is changed.

mod convert;
mod interfaces;
mod routes;
#[cfg(test)]
mod tests;
mod version;

use std::fmt;
use std::time::Duration;

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AddressDetail, Interface, LinkChange, LinkName, LinkSpec, MacAddr, Neighbor, NeighborPattern,
    NetworkManager, PciPath, Place, Route, RoutePattern, RouteSpec, SlotPower,
};
use patchbay_wire::Feature;
use patchbay_wire::proto::kata as wire;
use patchbay_wire::proto::kata_ttrpc::{AgentServiceClient, HealthClient};
use ttrpc::context::Context;

use super::call::{context, with_timeout};
use super::channel::Channel;
use super::{
    Agent, CardIdentity, Effect, Greeting, GuestAgent, GuestWait, HANDSHAKE_TIMEOUT,
    MAX_HANDSHAKE_BYTES, MAX_REPLY_BYTES, ROUTES_TIMEOUT,
};
use crate::interrupt::Interrupt;
use version::{Updates, Version};

/// Features of patchbay's agent that Kata's has too.
const FEATURES: [Feature; 3] = [Feature::Interfaces, Feature::Routes, Feature::Neighbors];

/// Parts of patchbay that need its own client.
const PATCHBAY_ONLY: &str = "IPVS, conntrack, settings and other network namespaces";

/// Connection to Kata's agent.
pub(super) struct KataAgent {
    channel: Channel,
    client: AgentServiceClient,
    interrupt: Interrupt,
    version: Version,
    /// Cards of the machine.
    cards: Vec<(MacAddr, PciPath)>,
}

impl fmt::Debug for KataAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KataAgent")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl KataAgent {
    /// Connects and checks that Kata's agent is at the other end.
    pub(super) fn connect(endpoint: &Endpoint, interrupt: &Interrupt) -> Result<Self, Failure> {
        let channel = Channel::open(endpoint, interrupt)?;
        let health = HealthClient::new(channel.transport.clone());
        channel.budget.reset(MAX_HANDSHAKE_BYTES);
        let reply = channel.runtime.block_on(async {
            let request = wire::CheckRequest::default();
            let call = health.version(context(HANDSHAKE_TIMEOUT), &request);
            with_timeout(HANDSHAKE_TIMEOUT, call).await
        });
        let reply = reply.map_err(|error| {
            let failure = channel.budget.limit_error(error.into());
            failure.context(format!("no agent of Kata answers at {endpoint}"))
        })?;
        Ok(Self {
            client: AgentServiceClient::new(channel.transport.clone()),
            channel,
            interrupt: interrupt.clone(),
            version: Version::new(&reply.agent_version),
            cards: Vec::new(),
        })
    }

    fn call<T, F: Future<Output = ttrpc::Result<T>>>(
        &self,
        effect: Effect,
        timeout: Duration,
        call: impl FnOnce(Context) -> F,
    ) -> Result<T, Failure> {
        let _phase = tracing::info_span!("transport").entered();
        let Channel {
            runtime, budget, ..
        } = &self.channel;
        budget.reset(MAX_REPLY_BYTES);
        if matches!(effect, Effect::Changes | Effect::Undoable) {
            self.interrupt.begin_change()?;
        }
        let call = with_timeout(timeout, call(context(timeout)));
        let reply = runtime.block_on(async {
            match effect {
                Effect::Undoable => tokio::select! {
                    reply = call => Ok(reply),
                    failure = self.interrupt.requested() => Err(failure),
                },
                _ => Ok(call.await),
            }
        })?;
        reply.map_err(|error| budget.limit_error(error.into()))
    }

    /// Returns the failure of a request that this agent can't carry out.
    fn lacks(&self, missing: &str) -> Failure {
        self.version.lacks(missing)
    }
}

impl GuestAgent for KataAgent {
    fn greeting(&self) -> Result<Greeting, Failure> {
        Ok(Greeting::of_kata(&self.version.text, &FEATURES))
    }

    fn card_identity(&self) -> CardIdentity {
        CardIdentity::Mac
    }

    fn set_cards(&mut self, cards: Vec<(MacAddr, PciPath)>) {
        self.cards = cards;
    }

    fn check_link(&self, spec: &LinkSpec) -> Result<(), Failure> {
        interfaces::unsupported(spec).map_or(Ok(()), |missing| Err(self.lacks(missing)))
    }

    fn configure(
        &self,
        path: &PciPath,
        spec: &LinkSpec,
        _yielding: &[PciPath],
        wait: GuestWait,
    ) -> Result<Interface, Failure> {
        self.check_link(spec)?;
        let mut interface = self.configure_card(path, spec, wait)?;
        interface.path = Some(path.clone());
        if !spec.neighbors().is_empty() {
            let device = LinkName::from(&spec.parts().name);
            self.send_neighbors(&convert::card_neighbors(spec.neighbors(), &device))?;
        }
        Ok(interface)
    }

    fn interfaces(&self, _: AddressDetail) -> Result<Vec<Interface>, Failure> {
        self.list_interfaces()
    }

    fn places(&self, _: &[PciPath]) -> Result<Vec<Place>, Failure> {
        Err(self.lacks("the places of cards"))
    }

    fn update(&self, change: &LinkChange) -> Result<Interface, Failure> {
        self.update_interface(change)
    }

    fn release(&self, _: &PciPath, _: SlotPower, _: Duration) -> Result<(), Failure> {
        Err(self.lacks("the release of cards"))
    }

    fn add_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        if self.version.updates == Updates::Replace {
            let present = self.other_routes(&self.list_interfaces()?)?;
            if !present.is_empty() {
                return Err(self.lacks("adding routes to present ones"));
            }
        }
        self.send_routes(specs)
    }

    fn replace_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        if self.version.updates == Updates::Add {
            let present = self.other_routes(&self.list_interfaces()?)?;
            if let Some(unwanted) = present.iter().find(|route| !route.is_among(specs)) {
                let device = unwanted.device();
                return Err(self.lacks(&format!("deleting routes (one through {device} is left)")));
            }
        }
        self.send_routes(specs)
    }

    fn delete_routes(&self, patterns: &[RoutePattern]) -> Result<(), Failure> {
        match patterns {
            [] => Ok(()),
            _ => Err(self.lacks("deleting routes")),
        }
    }

    fn routes(&self) -> Result<Vec<Route>, Failure> {
        let listed = self.list_routes()?;
        let is_vague = listed.iter().any(routes::Listed::has_gateway);
        if is_vague {
            tracing::warn!("Kata's agent reports each route with a gateway as a default route");
        }
        Ok(listed.iter().map(routes::Listed::to_route).collect())
    }

    fn add_neighbors(&self, neighbors: &[Neighbor]) -> Result<(), Failure> {
        self.send_neighbors(&convert::neighbors(neighbors))
    }

    fn delete_neighbors(&self, _: &[NeighborPattern]) -> Result<(), Failure> {
        Err(self.lacks("deleting neighbors"))
    }

    fn neighbors(&self) -> Result<Vec<Neighbor>, Failure> {
        Err(self.lacks("listing neighbors"))
    }

    fn mark_card(&self, _: MacAddr) -> Result<(), Failure> {
        Ok(())
    }

    fn managers(&self) -> Result<Option<Vec<NetworkManager>>, Failure> {
        Ok(None)
    }

    fn patchbay(&self) -> Result<&Agent, Failure> {
        Err(self.lacks(PATCHBAY_ONLY))
    }

    fn into_patchbay(self: Box<Self>) -> Result<Agent, Failure> {
        Err(self.lacks(PATCHBAY_ONLY))
    }
}

impl KataAgent {
    fn send_neighbors(&self, request: &wire::AddARPNeighborsRequest) -> Result<(), Failure> {
        let call = |context| self.client.add_arp_neighbors(context, request);
        self.call(Effect::Changes, super::REPLY_TIMEOUT, call)
            .map(drop)
    }

    fn send_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        let request = self.routes_request(specs)?;
        let call = |context| self.client.update_routes(context, &request);
        let sent = self.call(Effect::Changes, ROUTES_TIMEOUT, call);
        sent.map_err(|failure| failure.with_cause("Kata's agent undoes nothing: list the routes"))?;
        self.check_routes(specs)
    }
}

/// Failure of an answer that contradicts the request.
fn contradiction(message: String) -> Failure {
    Failure::new(Kind::Other, message).with_cause("Kata's agent reported success")
}
