//! The ttrpc client: one connection to one agent, each call with its deadline.

mod conntrack;
mod ipvs;

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use patchbay_protocols::API_VERSION;
use patchbay_protocols::convert;
use patchbay_protocols::endpoint::Endpoint;
use patchbay_protocols::failure::{Failure, Kind};
use patchbay_protocols::model::{Interface, Invalid, LinkSpec, PciPath};
use patchbay_protocols::wire::agent as wire;
use patchbay_protocols::wire::agent_ttrpc::AgentClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio_vsock::{VsockAddr, VsockStream};
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::context;

/// Longest wait for a connection and the first answer on it.
const GREETING: Duration = Duration::from_secs(5);
/// Longest wait for an answer that needs only the guest's kernel.
const ANSWER: Duration = Duration::from_secs(10);
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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::of(Kind::Other, &error))?;
        let socket = runtime.block_on(async {
            let opened = tokio::time::timeout(GREETING, open(endpoint)).await;
            opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        });
        let socket = socket.map_err(|error| unreachable(endpoint, &error))?;
        // The client spawns its tasks when it is made.
        let transport = runtime.block_on(async { Client::new(socket) });
        let client = AgentClient::new(transport.clone());
        let request = wire::HelloRequest {
            api_version: API_VERSION,
            ..Default::default()
        };
        let hello = client.hello(context::with_duration(GREETING), &request);
        let reply = runtime.block_on(within(GREETING, hello));
        let greeting = greeting(&reply.map_err(|failure| {
            let failure = match failure.kind() {
                // Not ttrpc's word for a broken stream, but what it means here.
                Kind::Other => Failure::new(Kind::NotFound, failure.to_string()),
                _ => failure,
            };
            failure.in_step(format!("the sandbox's agent does not answer at {endpoint}"))
        })?)?;
        Ok(Self {
            runtime,
            transport,
            client,
            endpoint: endpoint.clone(),
            greeting,
        })
    }

    /// What the agent said of itself.
    #[must_use]
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Waits in the guest for the card and has it configured.
    pub(crate) fn configure(
        &self,
        path: &PciPath,
        spec: &LinkSpec,
        wait: Duration,
    ) -> Result<Interface, Failure> {
        let mut request = convert::configure_request(path, spec);
        request.wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let limit = wait + MARGIN;
        let call = self
            .client
            .configure_interface(context::with_duration(limit), &request);
        let reply = self.runtime.block_on(within(limit, call))?;
        Interface::try_from(&reply).map_err(|invalid| nonsense(&invalid))
    }

    /// Every interface of the guest.
    pub(crate) fn interfaces(&self) -> Result<Vec<Interface>, Failure> {
        let request = wire::ListInterfacesRequest::default();
        let call = self
            .client
            .list_interfaces(context::with_duration(ANSWER), &request);
        let reply = self.runtime.block_on(within(ANSWER, call))?;
        convert::interfaces(&reply).map_err(|invalid| nonsense(&invalid))
    }
}

/// ttrpc has a timeout of its own, but a peer that stops reading can hold it up.
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

async fn open(endpoint: &Endpoint) -> io::Result<Socket> {
    match endpoint {
        Endpoint::Vsock { cid, port } => Ok(VsockStream::connect(VsockAddr::new(*cid, *port))
            .await?
            .into()),
        Endpoint::Unix(path) => StdUnixStream::connect(path)?.try_into(),
        Endpoint::Hybrid { path, port } => {
            let mut stream = UnixStream::connect(path).await?;
            stream
                .write_all(format!("CONNECT {port}\n").as_bytes())
                .await?;
            handshake(&mut stream).await?;
            Ok(stream.into())
        }
    }
}

/// Reads `OK <port>\n` byte by byte: what follows belongs to the stream.
async fn handshake(stream: &mut UnixStream) -> io::Result<()> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if line.len() > 32 {
            return Err(io::Error::other(
                "the hybrid vsock's answer to CONNECT is too long",
            ));
        }
        // Closed without an answer: nobody listens on that port in the guest.
        line.push(stream.read_u8().await?);
    }
    if line.starts_with(b"OK ") {
        return Ok(());
    }
    let line = String::from_utf8_lossy(&line);
    Err(io::Error::other(format!(
        "the hybrid vsock answered {line:?} to CONNECT"
    )))
}
