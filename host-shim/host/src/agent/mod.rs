//! The ttrpc client: one connection to one agent, each call with its deadline.

mod allowance;
mod conntrack;
mod ipvs;
mod pieces;
mod rows;
mod sysctl;

use std::cell::Cell;
use std::io;
use std::time::Duration;

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    DadPolicy, FieldError, Interface, LinkChange, LinkSpec, PciPath, Route, RoutePattern, RouteSpec,
};
use patchbay_wire::API_VERSION;
use patchbay_wire::convert;
use patchbay_wire::proto::agent as wire;
use patchbay_wire::proto::agent_ttrpc::AgentClient;
use patchbay_wire::status;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio_vsock::VsockStream;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;

use crate::vsock_stream::{self, Stream};
use allowance::{Allowance, Bounded};

/// Longest wait for a connection and the first answer on it.
const GREETING: Duration = Duration::from_secs(5);
/// Longest wait for an answer that needs only the guest's kernel.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest wait for a change of many routes.
const MANY: Duration = Duration::from_secs(60);
/// What duplicate address detection may take in the guest.
const DETECTION: Duration = Duration::from_secs(5);
/// What a call that waits in the guest gets on top, for its way.
const MARGIN: Duration = Duration::from_secs(5);

/// Most that an agent may send to introduce itself, in bytes.
const INTRODUCTION: u32 = 64 << 10;
/// Most that it may send for one answer, in bytes: 32,768 routes fit.
const ONE_ANSWER: u32 = 3 << 20;

/// A connection to an agent, greeted with the first call.
pub struct Agent {
    runtime: Runtime,
    transport: Client,
    client: AgentClient,
    endpoint: Endpoint,
    allowance: Allowance,
    greeted: Cell<bool>,
}

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Its own version.
    pub version: String,
    /// The guest's kernel, as `uname -r` prints it.
    pub kernel: String,
    /// What it can do on that kernel.
    pub features: Vec<String>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Connects. Whether an agent of ours is there the first call tells, which the greeting goes
    /// along with: one of another version knows none of our services by name.
    ///
    /// # Errors
    /// [`Kind::Timeout`] and [`Kind::NotFound`] when nobody takes the connection.
    pub fn connect(endpoint: &Endpoint) -> Result<Self, Failure> {
        let _phase = tracing::info_span!("agent").entered();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::of(Kind::Other, &error))?;
        let unreachable = |error| unreachable(endpoint, &error);
        let stream = vsock_stream::connect(endpoint, GREETING).map_err(unreachable)?;
        let allowance = Allowance::of(INTRODUCTION);
        // Both register with the runtime when they are made.
        let transport = async { socket(stream, allowance.clone()).map(Client::new) };
        let transport = runtime.block_on(transport).map_err(unreachable)?;
        Ok(Self {
            runtime,
            client: AgentClient::new(transport.clone()),
            transport,
            endpoint: endpoint.clone(),
            allowance,
            greeted: Cell::new(false),
        })
    }

    /// What the agent says of itself.
    ///
    /// # Errors
    /// [`Kind::Timeout`] and [`Kind::NotFound`] when nobody answers, [`Kind::Unsupported`] when the
    /// agent speaks another version.
    pub fn greeting(&self) -> Result<Greeting, Failure> {
        self.greeted.set(true);
        self.allowance.renew(INTRODUCTION);
        self.runtime.block_on(self.hello())
    }

    async fn hello(&self) -> Result<Greeting, Failure> {
        let request = wire::HelloRequest {
            api_version: API_VERSION,
            ..Default::default()
        };
        let call = self.client.hello(context(GREETING), &request);
        let reply = within(GREETING, call).await.map_err(|failure| {
            let failure = self.allowance.explain(failure);
            let failure = match failure.kind() {
                // Not ttrpc's word for a broken stream, but what it means here.
                Kind::Other => failure.with_kind(Kind::NotFound),
                _ => failure,
            };
            let endpoint = &self.endpoint;
            failure.context(format!("the sandbox's agent does not answer at {endpoint}"))
        })?;
        greeting(&reply)
    }

    /// Waits in the guest for the card and has it configured.
    ///
    /// # Errors
    /// The agent's refusal, or [`Kind::Timeout`] some seconds after `wait`.
    pub fn configure(
        &self,
        path: &PciPath,
        spec: &LinkSpec,
        wait: Duration,
    ) -> Result<Interface, Failure> {
        let mut request = convert::configure_request(path, spec);
        request.wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let limit = wait + MARGIN + detection(spec.duplicates());
        let call = self.client.configure_interface(context(limit), &request);
        let _phase = tracing::info_span!("transport").entered();
        let reply = self.ask(ONE_ANSWER, limit, call)?;
        phase_in_guest("discovery", reply.discovery_us);
        phase_in_guest("netlink", reply.netlink_us);
        let interface = reply.interface.as_ref().unwrap_or_default();
        Interface::try_from(interface).map_err(|invalid| nonsense(&invalid))
    }

    /// Every interface of the guest.
    ///
    /// # Errors
    /// The agent's refusal, or an answer that breaks the interface.
    pub fn interfaces(&self) -> Result<Vec<Interface>, Failure> {
        let request = wire::ListInterfacesRequest::default();
        let call = self.client.list_interfaces(context(ANSWER), &request);
        let reply = self.wait(ANSWER, call)?;
        convert::interfaces(&reply).map_err(|invalid| nonsense(&invalid))
    }

    /// Changes an interface of the guest.
    pub fn update(&self, change: &LinkChange) -> Result<Interface, Failure> {
        let limit = ANSWER + detection(change.duplicates());
        let request = convert::update_request(change);
        let call = self.client.update_interface(context(limit), &request);
        let reply = self.wait(limit, call)?;
        Interface::try_from(&reply).map_err(|invalid| nonsense(&invalid))
    }

    /// Adds routes, or none.
    pub fn add_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        let request = convert::routes_request(specs);
        let call = self.client.add_routes(context(MANY), &request);
        self.wait(MANY, call).map(drop)
    }

    /// Makes these the guest's routes.
    pub fn replace_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        let request = convert::routes_request(specs);
        let call = self.client.replace_routes(context(MANY), &request);
        self.wait(MANY, call).map(drop)
    }

    /// Deletes the routes that agree, or none.
    pub fn delete_routes(&self, patterns: &[RoutePattern]) -> Result<(), Failure> {
        let request = convert::delete_request(patterns);
        let call = self.client.delete_routes(context(MANY), &request);
        self.wait(MANY, call).map(drop)
    }

    /// The guest's routes.
    pub fn routes(&self) -> Result<Vec<Route>, Failure> {
        let request = wire::ListRoutesRequest::default();
        let call = self.client.list_routes(context(ANSWER), &request);
        let reply = self.wait(ANSWER, call)?;
        convert::routes(&reply).map_err(|invalid| nonsense(&invalid))
    }

    fn wait<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = ttrpc::Result<T>>,
    ) -> Result<T, Failure> {
        self.wait_for(ONE_ANSWER, limit, call)
    }

    /// The same for answers of so many bytes in all.
    fn wait_for<T>(
        &self,
        bytes: u32,
        limit: Duration,
        call: impl Future<Output = ttrpc::Result<T>>,
    ) -> Result<T, Failure> {
        let _phase = tracing::info_span!("transport").entered();
        self.ask(bytes, limit, call)
    }

    fn ask<T>(
        &self,
        bytes: u32,
        limit: Duration,
        call: impl Future<Output = ttrpc::Result<T>>,
    ) -> Result<T, Failure> {
        self.allowance.renew(bytes.saturating_add(INTRODUCTION));
        let call = within(limit, call);
        let answer = if self.greeted.replace(true) {
            self.runtime.block_on(call)
        } else {
            // Who is not greeted back has no answer worth waiting for.
            let both = async { tokio::try_join!(self.hello(), async { Ok(call.await) }) };
            self.runtime.block_on(both)?.1
        };
        answer.map_err(|failure| self.allowance.explain(failure))
    }
}

/// ttrpc's own deadline comes later than ours: a peer that stops reading can hold it up, and it has
/// no kind.
fn context(limit: Duration) -> ttrpc::context::Context {
    ttrpc::context::with_duration(limit + MARGIN)
}

fn detection(duplicates: DadPolicy) -> Duration {
    match duplicates {
        DadPolicy::Detect => DETECTION,
        DadPolicy::Skip => Duration::ZERO,
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = ttrpc::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(status::to_failure(error)),
        Err(_) => {
            let sentence = format!("the agent gave no answer in {} s", limit.as_secs());
            Err(Failure::new(Kind::Timeout, sentence))
        }
    }
}

fn greeting(reply: &wire::HelloReply) -> Result<Greeting, Failure> {
    let text = |text: &str| -> String { text.escape_debug().take(64).collect() };
    if reply.api_version != API_VERSION {
        let sentence = format!(
            "the agent speaks version {} of the interface and this patchbay version {API_VERSION}",
            reply.api_version
        );
        return Err(Failure::new(Kind::Unsupported, sentence));
    }
    Ok(Greeting {
        version: text(&reply.agent_version),
        kernel: text(&reply.kernel),
        features: reply
            .features
            .iter()
            .take(64)
            .map(|feature| text(feature))
            .collect(),
    })
}

/// Reports a phase that the guest's own clock measured, inside the span that is entered.
fn phase_in_guest(phase: &'static str, micros: u32) {
    tracing::info!(phase, micros = u64::from(micros));
}

fn nonsense(invalid: &FieldError) -> Failure {
    Failure::new(Kind::Other, invalid.to_string())
        .context("the agent's answer breaks the interface")
}

fn unreachable(endpoint: &Endpoint, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::TimedOut => Kind::Timeout,
        io::ErrorKind::PermissionDenied => Kind::Denied,
        _ => Kind::NotFound,
    };
    let sentence = format!("the sandbox's agent does not answer at {endpoint}");
    Failure::new(kind, sentence).with_cause(error.to_string())
}

fn socket(stream: Stream, allowance: Allowance) -> io::Result<Socket> {
    Ok(match stream {
        Stream::Unix(stream) => {
            stream.set_nonblocking(true)?;
            let stream = UnixStream::from_std(stream)?;
            Socket::new(Bounded { stream, allowance })
        }
        Stream::Vsock(stream) => {
            let stream = VsockStream::new(stream)?;
            Socket::new(Bounded { stream, allowance })
        }
    })
}
