//! The ttrpc server: who may connect, and the handlers.

mod chunks;
mod conntrack;
mod guarded;
mod handlers;
mod ipvs;
mod listen;
mod vsock;

use std::sync::Arc;

pub use handlers::IN_FLIGHT;
use patchbay_wire::proto::{agent_ttrpc, conntrack_ttrpc, ipvs_ttrpc};
use slog::{Logger, info};
use ttrpc::r#async::Server;

use crate::config::Listen;
use patchbay_netcfg::ops::Netcfg;

/// Why the agent can't serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The place where it shall wait can't be taken.
    #[error("could not listen on {place}")]
    Bind {
        /// Where.
        place: String,
        /// Why.
        source: std::io::Error,
    },
    /// ttrpc refused to start.
    #[error("could not start the server")]
    Start(#[source] ttrpc::Error),
}

/// Serves until the process ends.
///
/// # Errors
/// When it can't even begin.
pub async fn serve(listen: &Listen, services: Arc<Netcfg>, log: Logger) -> Result<(), Error> {
    let listener = listen::listener(listen, &log)?;
    let kernel = services.kernel_release();
    let handlers = Arc::new(handlers::Handlers::new(services, log.clone()));
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(agent_ttrpc::create_agent(handlers.clone()))
        .register_service(ipvs_ttrpc::create_ipvs(handlers.clone()))
        .register_service(conntrack_ttrpc::create_conntrack(handlers));
    server.start().await.map_err(Error::Start)?;
    info!(log, "the agent serves"; "version" => env!("CARGO_PKG_VERSION"),
        "listen" => format!("{listen:?}"), "kernel" => kernel);
    std::future::pending().await
}
