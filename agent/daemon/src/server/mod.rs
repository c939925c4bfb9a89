//! The ttrpc server: connections and request handlers.

mod chunks;
mod connection;
mod conntrack;
mod handlers;
mod ipvs;
mod ipvs_servers;
mod listen;
mod vsock;

use std::sync::Arc;

pub use handlers::MAX_REQUESTS;
use patchbay_netcfg::ops::{Netcfg, kernel_release};
use patchbay_wire::proto::{agent_ttrpc, conntrack_ttrpc, ipvs_ttrpc};
use slog::{Logger, info};
use ttrpc::r#async::Server;

use crate::listeners::Listeners;

/// Error that keeps the agent from serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listening socket can't be registered with the runtime.
    #[error("could not wait for connections")]
    Register(#[source] std::io::Error),
    /// ttrpc failed to start.
    #[error("could not start the server")]
    Start(#[source] ttrpc::Error),
}

/// Serves until the process ends.
///
/// # Errors
/// ttrpc fails to start.
pub async fn serve(listeners: Listeners, netcfg: Arc<Netcfg>, log: Logger) -> Result<(), Error> {
    let addresses = listeners.to_string();
    let listener = listen::listener(listeners, &log)?;
    let kernel = kernel_release();
    let handlers = Arc::new(handlers::Handlers::new(netcfg, log.clone()));
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(agent_ttrpc::create_agent(handlers.clone()))
        .register_service(ipvs_ttrpc::create_ipvs(handlers.clone()))
        .register_service(conntrack_ttrpc::create_conntrack(handlers));
    server.start().await.map_err(Error::Start)?;
    // The sandbox launcher waits for this message on the console.
    info!(log, "the agent serves"; "version" => env!("CARGO_PKG_VERSION"),
        "listen" => addresses, "kernel" => kernel);
    std::future::pending().await
}
