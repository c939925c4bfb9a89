//! The ttrpc server: connections and request handlers.

mod chunks;
mod connection;
mod conntrack;
mod handlers;
mod ipvs;
mod listen;
mod vsock;

use std::sync::Arc;

pub use handlers::MAX_REQUESTS;
use patchbay_netcfg::ops::{Netcfg, kernel_release};
use patchbay_wire::proto::{agent_ttrpc, conntrack_ttrpc, ipvs_ttrpc};
use slog::{Logger, info};
use ttrpc::r#async::Server;

use crate::config::Listen;

/// Error that keeps the agent from serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be bound.
    #[error("could not listen on {address}")]
    Bind {
        /// The address, as in `--listen`.
        address: String,
        /// Error of `bind` or `listen`.
        source: std::io::Error,
    },
    /// ttrpc failed to start.
    #[error("could not start the server")]
    Start(#[source] ttrpc::Error),
}

/// Serves until the process ends.
///
/// # Errors
/// The address can't be bound, or ttrpc fails to start.
pub async fn serve(listen: &Listen, netcfg: Arc<Netcfg>, log: Logger) -> Result<(), Error> {
    let listener = listen::listener(listen, &log)?;
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
        "listen" => listen.to_string(), "kernel" => kernel);
    std::future::pending().await
}
