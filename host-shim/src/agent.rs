//! The ttrpc client: one connection to one agent, each call with its deadline.

mod conntrack;
mod ipvs;
mod sysctl;

use std::io;
use std::time::Duration;

use patchbay_protocols::API_VERSION;
use patchbay_protocols::convert;
use patchbay_protocols::endpoint::Endpoint;
use patchbay_protocols::failure::{Failure, Kind};
use patchbay_protocols::model::{
    Duplicates, Interface, Invalid, LinkChange, LinkSpec, PciPath, Route, RoutePattern, RouteSpec,
};
use patchbay_protocols::wire::agent as wire;
use patchbay_protocols::wire::agent_ttrpc::AgentClient;
use tokio::runtime::Runtime;
use tokio_vsock::VsockStream;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;

use crate::stream::{self, Stream};
use crate::timings;
use ttrpc::context;

/// Longest wait for a connection and the first answer on it.
const GREETING: Duration = Duration::from_secs(5);
/// Longest wait for an answer that needs only the guest's kernel.
const ANSWER: Duration = Duration::from_secs(10);
/// Most services, servers, connections and flows that are taken from a guest.
const MAX_LISTED: usize = 4_000_000;
/// Longest wait for a change of many routes.
const MANY: Duration = Duration::from_secs(60);
/// What duplicate address detection may take in the guest.
const DETECTION: Duration = Duration::from_secs(5);
/// What a call that waits in the guest gets on top, for its way.
const MARGIN: Duration = Duration::from_secs(5);

/// A connection whose other end has said that it is our agent.
pub struct Agent {
    runtime: Runtime,
    transport: Client,
    client: AgentClient,
    endpoint: Endpoint,
    greeting: Greeting,
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
    /// Connects and says hello.
    ///
    /// # Errors
    /// [`Kind::Timeout`] and [`Kind::NotFound`] when nobody answers, [`Kind::Unsupported`] when the
    /// agent speaks another version.
    pub fn connect(endpoint: &Endpoint) -> Result<Self, Failure> {
        Self::greeted(endpoint, async |_| Ok(())).map(|(agent, ())| agent)
    }

    /// The same, and lists the guest's interfaces: the question goes along with the greeting, for
    /// an agent of another version does no harm by answering it.
    ///
    /// # Errors
    /// As [`Agent::connect`] and [`Agent::interfaces`].
    pub fn connect_and_list(endpoint: &Endpoint) -> Result<(Self, Vec<Interface>), Failure> {
        let (agent, listed) = Self::greeted(endpoint, async |client| list(client).await)?;
        let interfaces = convert::interfaces(&listed).map_err(|invalid| nonsense(&invalid))?;
        Ok((agent, interfaces))
    }

    /// Connects, says hello and asks one thing besides, which must not change anything.
    fn greeted<T>(
        endpoint: &Endpoint,
        ask: impl AsyncFnOnce(AgentClient) -> Result<T, Failure>,
    ) -> Result<(Self, T), Failure> {
        let _phase = tracing::info_span!("agent").entered();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::of(Kind::Other, &error))?;
        let unreachable = |error| unreachable(endpoint, &error);
        let stream = stream::connect(endpoint, GREETING).map_err(unreachable)?;
        // Both register with the runtime when they are made.
        let transport = runtime.block_on(async { socket(stream).map(Client::new) });
        let transport = transport.map_err(unreachable)?;
        let client = AgentClient::new(transport.clone());
        let answers = async { tokio::join!(hello(&client), ask(client.clone())) };
        let (reply, asked) = runtime.block_on(answers);
        let greeting = greeting(&reply.map_err(|failure| {
            let failure = match failure.kind() {
                // Not ttrpc's word for a broken stream, but what it means here.
                Kind::Other => failure.with_kind(Kind::NotFound),
                _ => failure,
            };
            failure.in_step(format!("the sandbox's agent does not answer at {endpoint}"))
        })?)?;
        let agent = Self {
            runtime,
            transport,
            client,
            endpoint: endpoint.clone(),
            greeting,
        };
        Ok((agent, asked?))
    }

    /// What the agent said of itself.
    #[must_use]
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
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
        let call = self
            .client
            .configure_interface(context::with_duration(limit + MARGIN), &request);
        let _phase = tracing::info_span!("transport").entered();
        let reply = self.runtime.block_on(within(limit, call))?;
        timings::inner("discovery", reply.discovery_us);
        timings::inner("netlink", reply.netlink_us);
        let interface = reply.interface.as_ref().unwrap_or_default();
        Interface::try_from(interface).map_err(|invalid| nonsense(&invalid))
    }

    /// Every interface of the guest.
    ///
    /// # Errors
    /// The agent's refusal, or an answer that breaks the interface.
    pub fn interfaces(&self) -> Result<Vec<Interface>, Failure> {
        let _phase = tracing::info_span!("transport").entered();
        let reply = self.runtime.block_on(list(self.client.clone()))?;
        convert::interfaces(&reply).map_err(|invalid| nonsense(&invalid))
    }

    /// Changes an interface of the guest.
    pub(crate) fn update(&self, change: &LinkChange) -> Result<Interface, Failure> {
        let limit = ANSWER + detection(change.duplicates());
        let request = convert::update_request(change);
        let call = self
            .client
            .update_interface(context::with_duration(limit), &request);
        let reply = self.wait(limit, call)?;
        Interface::try_from(&reply).map_err(|invalid| nonsense(&invalid))
    }

    /// Adds routes, or none.
    pub(crate) fn add_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        let request = convert::routes_request(specs);
        let call = self
            .client
            .add_routes(context::with_duration(MANY), &request);
        self.wait(MANY, call).map(drop)
    }

    /// Makes these the guest's routes.
    pub(crate) fn replace_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        let request = convert::routes_request(specs);
        let call = self
            .client
            .replace_routes(context::with_duration(MANY), &request);
        self.wait(MANY, call).map(drop)
    }

    /// Deletes the routes that agree, or none.
    pub(crate) fn delete_routes(&self, patterns: &[RoutePattern]) -> Result<(), Failure> {
        let request = convert::delete_request(patterns);
        let call = self
            .client
            .delete_routes(context::with_duration(MANY), &request);
        self.wait(MANY, call).map(drop)
    }

    /// The guest's routes.
    pub(crate) fn routes(&self) -> Result<Vec<Route>, Failure> {
        let request = wire::ListRoutesRequest::default();
        let call = self
            .client
            .list_routes(context::with_duration(ANSWER), &request);
        let reply = self.wait(ANSWER, call)?;
        convert::routes(&reply).map_err(|invalid| nonsense(&invalid))
    }

    fn wait<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = ttrpc::Result<T>>,
    ) -> Result<T, Failure> {
        let _phase = tracing::info_span!("transport").entered();
        self.runtime.block_on(within(limit, call))
    }
}

async fn hello(client: &AgentClient) -> Result<wire::HelloReply, Failure> {
    let request = wire::HelloRequest {
        api_version: API_VERSION,
        ..Default::default()
    };
    let call = client.hello(context::with_duration(GREETING + MARGIN), &request);
    within(GREETING, call).await
}

async fn list(client: AgentClient) -> Result<wire::ListInterfacesReply, Failure> {
    let request = wire::ListInterfacesRequest::default();
    let call = client.list_interfaces(context::with_duration(ANSWER + MARGIN), &request);
    within(ANSWER, call).await
}

fn detection(duplicates: Duplicates) -> Duration {
    match duplicates {
        Duplicates::Detected => DETECTION,
        Duplicates::Allowed => Duration::ZERO,
    }
}

/// ttrpc's own timeout comes later than this one: a peer that stops reading can hold it up, and it
/// has no kind.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = ttrpc::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(error.into()),
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

fn bounded(count: usize) -> Result<(), Failure> {
    if count > MAX_LISTED {
        let sentence = format!("the guest lists more than {MAX_LISTED} items");
        return Err(Failure::new(Kind::Other, sentence));
    }
    Ok(())
}

fn nonsense(invalid: &Invalid) -> Failure {
    Failure::of(Kind::Other, invalid).in_step("the agent's answer breaks the interface")
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

fn socket(stream: Stream) -> io::Result<Socket> {
    match stream {
        Stream::Unix(stream) => stream.try_into(),
        Stream::Vsock(stream) => Ok(VsockStream::new(stream)?.into()),
    }
}
