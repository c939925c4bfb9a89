//! ttrpc client of an agent: one connection, with a timeout and a byte budget for each call.
//!
//! A call that changes something is sent after the handshake: an agent of another version must not get
//! it. If the first call of a connection only reads, it is sent together with the handshake, which saves
//! a round trip. A request with fields that an older agent would ignore calls [`Agent::require`] first.

mod byte_budget;
mod call;
mod call_error;
mod cancel;
mod channel;
mod connect;
mod connections;
mod conntrack;
mod dial;
mod events;
mod greeting;
mod guest_agent;
mod ipvs;
mod kata;
mod list;
mod managers;
mod neighbors;
mod netns;
mod sysctl;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::time::Duration;

use patchbay_codec::Bulk;
use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AddressDetail, DadPolicy, FieldError, Interface, LinkChange, LinkFlags, LinkSpec, PciPath,
    Place, Route, RoutePattern, RouteSpec, SlotPower,
};
use patchbay_wire::proto::agent as wire;
use patchbay_wire::proto::agent_ttrpc::AgentClient;
use patchbay_wire::{API_VERSION, Feature, convert};
use tokio::runtime::Runtime;
use ttrpc::r#async::Client;

use crate::interrupt::Interrupt;
use byte_budget::ByteBudget;
use call::Call;
pub use call::{Effect, GuestWait};
use channel::Channel;
pub use connect::connect;
pub use greeting::{AgentKind, Greeting};
pub use guest_agent::{AnyAgent, CardIdentity, GuestAgent};
pub use ipvs::{RestoreState, RestoreWatch};
pub(crate) use sysctl::LoadedSettings;

/// Timeout for the connection and for the handshake on it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for a reply that needs only the guest's kernel.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for a change of many routes.
const ROUTES_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for duplicate address detection in the guest.
const DAD_TIME: Duration = Duration::from_secs(5);
/// Added to the timeout of a call that waits in the guest.
const MARGIN: Duration = Duration::from_secs(5);

/// Maximum size of a handshake reply.
const MAX_HANDSHAKE_BYTES: u32 = 64 << 10;
/// Maximum size of a single reply: 32,768 routes fit.
const MAX_REPLY_BYTES: u32 = 3 << 20;

const INTERFACES: Call = Call::short(Feature::Interfaces);
const CHANGE_ROUTES: Call = Call::short(Feature::Routes).with_timeout(ROUTES_TIMEOUT);

/// Connection to an agent.
pub struct Agent {
    runtime: Runtime,
    transport: Client,
    client: AgentClient,
    endpoint: Endpoint,
    budget: ByteBudget,
    greeting: OnceCell<Greeting>,
    interrupt: Interrupt,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Connects to an agent. The handshake is part of the first call.
    ///
    /// # Errors
    /// [`Kind::Timeout`] and [`Kind::NotFound`] if nothing accepts the connection.
    pub fn connect(endpoint: &Endpoint, interrupt: &Interrupt) -> Result<Self, Failure> {
        let Channel {
            runtime,
            transport,
            budget,
        } = Channel::open(endpoint, interrupt)?;
        Ok(Self {
            runtime,
            client: AgentClient::new(transport.clone()),
            transport,
            endpoint: endpoint.clone(),
            budget,
            greeting: OnceCell::new(),
            interrupt: interrupt.clone(),
        })
    }

    /// Completes the handshake and returns the agent's reply.
    ///
    /// # Errors
    /// [`Kind::Timeout`] and [`Kind::NotFound`] if the agent doesn't reply, [`Kind::Unsupported`] for
    /// another version of the API.
    pub fn greeting(&self) -> Result<Greeting, Failure> {
        if let Some(greeting) = self.greeting.get() {
            return Ok(greeting.clone());
        }
        self.budget.reset(MAX_HANDSHAKE_BYTES);
        self.runtime.block_on(self.handshake()).cloned()
    }

    /// Completes the handshake and checks that the agent has a feature.
    ///
    /// # Errors
    /// Those of [`Agent::greeting`], and [`Kind::Unsupported`] without the feature.
    pub fn require(&self, feature: Feature) -> Result<(), Failure> {
        self.greeting()?.require(feature)
    }

    /// Checks that the agent reads a layout, which needs the handshake unless it is that of the first
    /// release.
    fn require_layout(&self, bulk: Bulk, layout: u32) -> Result<(), Failure> {
        match layout {
            0 => Ok(()),
            _ => self.greeting()?.require_layout(bulk, layout),
        }
    }

    async fn handshake(&self) -> Result<&Greeting, Failure> {
        let request = wire::HelloRequest {
            api_version: API_VERSION,
            ..Default::default()
        };
        let call = self
            .client
            .hello(call::context(HANDSHAKE_TIMEOUT), &request);
        let reply = call::with_timeout(HANDSHAKE_TIMEOUT, call).await;
        let reply = reply.map_err(|error| {
            let failure = self.budget.limit_error(error.into());
            let failure = match failure.kind() {
                // A broken stream: ttrpc has no kind for it.
                Kind::Other => failure.with_kind(Kind::NotFound),
                _ => failure,
            };
            let endpoint = &self.endpoint;
            failure.context(format!("the sandbox's agent does not answer at {endpoint}"))
        })?;
        let greeting = Greeting::new(reply)?;
        Ok(self.greeting.get_or_init(|| greeting))
    }

    /// Waits in the guest for the card, and configures it. A card at one of the paths `yielding` loses
    /// its name if `spec` has it.
    ///
    /// # Errors
    /// The agent's, or [`Kind::Timeout`] some seconds after `wait`.
    pub fn configure(
        &self,
        path: &PciPath,
        spec: &LinkSpec,
        yielding: &[PciPath],
        wait: Duration,
    ) -> Result<Interface, Failure> {
        let effect = Effect::Changes;
        self.configure_as(
            path,
            spec,
            yielding,
            GuestWait {
                limit: wait,
                effect,
            },
        )
    }

    /// Like [`Agent::configure`], for a caller that can undo it.
    pub(super) fn configure_as(
        &self,
        path: &PciPath,
        spec: &LinkSpec,
        yielding: &[PciPath],
        GuestWait {
            limit: wait,
            effect,
        }: GuestWait,
    ) -> Result<Interface, Failure> {
        let request = convert::configure_request(path, spec);
        let mut request = convert::with_yielding(request, yielding);
        request.wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let timeout = wait + MARGIN + dad_time(spec.duplicates());
        let limits = INTERFACES.with_timeout(timeout).with_effect(effect);
        let _phase = tracing::info_span!("transport").entered();
        let call = |context| self.client.configure_interface(context, &request);
        let reply = self.exchange(limits, call)?;
        phase_in_guest("discovery", reply.discovery_us);
        phase_in_guest("netlink", reply.netlink_us);
        let interface = reply.interface.as_ref().unwrap_or_default();
        Interface::try_from(interface).map_err(protocol_error)
    }

    /// Lists every interface of the guest. An older agent lists addresses in any case.
    ///
    /// # Errors
    /// The agent's, or an invalid reply.
    pub fn interfaces(&self, detail: AddressDetail) -> Result<Vec<Interface>, Failure> {
        let request = convert::interfaces_request(detail);
        let call = |context| self.client.list_interfaces(context, &request);
        let reply = self.call(INTERFACES.reading(), call)?;
        convert::interfaces(&reply).map_err(protocol_error)
    }

    /// Locates cards in the guest, also those without an interface that the agent sees.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] for an agent that can't, or an invalid reply.
    pub fn places(&self, paths: &[PciPath]) -> Result<Vec<Place>, Failure> {
        let request = convert::locate_request(paths);
        let call = |context| self.client.locate_cards(context, &request);
        let reply = self.call(Call::short(Feature::Places).reading(), call)?;
        convert::places(&reply, paths.len()).map_err(protocol_error)
    }

    /// Changes an interface of the guest, a plugged card or not, and returns its new state, without addresses.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without an interface of this name, [`Kind::Invalid`] if the card that was
    /// plugged under it is another one, [`Kind::Unsupported`] for flags and a new name that an older agent ignores.
    pub fn update(&self, change: &LinkChange) -> Result<Interface, Failure> {
        if change.flags() != LinkFlags::default() {
            self.require(Feature::LinkFlags)?;
        }
        if change.rename().is_some() {
            self.require(Feature::Rename)?;
        }
        let timeout = REPLY_TIMEOUT + dad_time(change.duplicates());
        let limits = INTERFACES.with_timeout(timeout);
        let request = wire::UpdateInterfaceRequest {
            without_addresses: true,
            ..convert::update_request(change)
        };
        let call = |context| self.client.update_interface(context, &request);
        let reply = self.call(limits, call)?;
        Interface::try_from(&reply).map_err(protocol_error)
    }

    /// Waits until a card that is unplugged is gone in the guest.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] for an agent without the feature; the agent's.
    pub fn release(&self, path: &PciPath, power: SlotPower, wait: Duration) -> Result<(), Failure> {
        let mut request = convert::release_request(path, power);
        request.wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let limits = Call::short(Feature::Release)
            .with_timeout(wait + MARGIN)
            .with_effect(Effect::Marked);
        let call = |context| self.client.release_card(context, &request);
        self.call(limits, call).map(drop)
    }

    /// Adds routes, as one transaction.
    ///
    /// # Errors
    /// The agent's, or [`Kind::Unsupported`] if it lacks a field of a route.
    pub fn add_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        let request = convert::routes_request(specs);
        self.require_layout(Bulk::Routes, request.layout)?;
        let call = |context| self.client.add_routes(context, &request);
        self.call(CHANGE_ROUTES, call).map(drop)
    }

    /// Replaces the guest's routes.
    ///
    /// # Errors
    /// Those of [`Agent::add_routes`].
    pub fn replace_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        let request = convert::routes_request(specs);
        self.require_layout(Bulk::Routes, request.layout)?;
        let call = |context| self.client.replace_routes(context, &request);
        self.call(CHANGE_ROUTES, call).map(drop)
    }

    /// Deletes the routes that match one of the patterns, as one transaction.
    ///
    /// # Errors
    /// Those of [`Agent::add_routes`].
    pub fn delete_routes(&self, patterns: &[RoutePattern]) -> Result<(), Failure> {
        let request = convert::delete_request(patterns);
        self.require_layout(Bulk::Routes, request.layout)?;
        let call = |context| self.client.delete_routes(context, &request);
        self.call(CHANGE_ROUTES, call).map(drop)
    }

    /// Lists the guest's routes.
    pub fn routes(&self) -> Result<Vec<Route>, Failure> {
        let request = convert::list_request();
        let call = |context| self.client.list_routes(context, &request);
        let reply = self.call(Call::short(Feature::Routes).reading(), call)?;
        convert::routes(&reply).map_err(protocol_error)
    }
}

fn dad_time(policy: DadPolicy) -> Duration {
    match policy {
        DadPolicy::Detect => DAD_TIME,
        DadPolicy::Skip => Duration::ZERO,
    }
}

/// Reports a phase that the guest measured, inside the current span.
fn phase_in_guest(phase: &'static str, micros: u32) {
    tracing::info!(phase, micros = u64::from(micros));
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of map_err")]
fn protocol_error(invalid: FieldError) -> Failure {
    Failure::new(Kind::Other, invalid.to_string()).context("invalid response from the agent")
}
