//! The ttrpc server: connections and request handlers.

mod cancellations;
mod changes;
mod chunks;
mod connection;
mod conntrack;
mod events;
mod handlers;
mod host_port;
mod ipvs;
mod ipvs_servers;
mod listen;
mod vsock;

use std::sync::Arc;
use std::time::Duration;

use host_port::HostPort;
use patchbay_netcfg::ops::{Netcfg, kernel_release};
use patchbay_wire::proto::{agent_ttrpc, conntrack_ttrpc, events_ttrpc, ipvs_ttrpc};
use slog::{Logger, info, warn};
use ttrpc::r#async::Server;

use crate::listeners::Listeners;
use crate::namespaces::Namespaces;
use crate::readiness::Readiness;

/// Error that keeps the agent from serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listening socket can't be registered with the runtime.
    #[error("could not wait for connections")]
    Register(#[source] std::io::Error),
    /// `/proc/cmdline` can't be read.
    #[error("could not read the kernel's command line")]
    CommandLine(#[source] std::io::Error),
    /// ttrpc failed to start.
    #[error("could not start the server")]
    Start(#[source] ttrpc::Error),
}

/// Time for which an agent serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the process.
    Unlimited,
    /// Until it has had no connection for a minute.
    UntilIdle,
}

/// Time without a connection after which an agent ends that serves until it is idle.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// An agent that serves the host.
#[derive(Debug)]
pub struct AgentServer {
    /// Operations.
    pub netcfg: Netcfg,
    /// Other namespaces of the guest, if they can be served.
    pub namespaces: Option<Namespaces>,
    /// Time for which it serves.
    pub lifetime: Lifetime,
    /// Service manager that waits until the agent serves.
    pub readiness: Option<Readiness>,
    /// Log.
    pub log: Logger,
}

impl AgentServer {
    /// Serves the host.
    ///
    /// # Errors
    /// ttrpc fails to start.
    pub async fn serve(self, listeners: Listeners) -> Result<(), Error> {
        serve(self, listeners).await
    }
}

async fn serve(agent: AgentServer, listeners: Listeners) -> Result<(), Error> {
    let AgentServer {
        netcfg,
        namespaces,
        lifetime,
        readiness,
        log,
    } = agent;
    let addresses = listeners.to_string();
    let host = HostPort::of_kernel().map_err(Error::CommandLine)?;
    let (listener, slots) = listen::listener(listeners, host, &log)?;
    let kernel = kernel_release();
    let handlers = Arc::new(handlers::Handlers::new(netcfg, namespaces, log.clone()));
    let events = Arc::new(events::EventService::new(Arc::clone(&handlers)));
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(agent_ttrpc::create_agent(handlers.clone()))
        .register_service(ipvs_ttrpc::create_ipvs(handlers.clone()))
        .register_service(events_ttrpc::create_events(events))
        .register_service(conntrack_ttrpc::create_conntrack(handlers));
    server.start().await.map_err(Error::Start)?;
    // The sandbox launcher waits for this message on the console.
    info!(log, "the agent serves"; "version" => env!("CARGO_PKG_VERSION"),
        "listen" => addresses, "kernel" => kernel);
    if let Some(Err(error)) = readiness.map(Readiness::announce) {
        warn!(log, "the service manager was not notified"; "error" => error.to_string());
    }
    match lifetime {
        Lifetime::Unlimited => std::future::pending().await,
        Lifetime::UntilIdle => {
            listen::idle(&slots, IDLE_TIME).await;
            Ok(())
        }
    }
}
