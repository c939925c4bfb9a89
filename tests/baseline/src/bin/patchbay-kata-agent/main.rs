//! `patchbay-kata-agent VERSION`: serves the network part of Kata's agent on vsock port 1024, with the effects and
//! faults that the sources of that version have. It runs iproute2 in place of Kata's netlink code.

mod interfaces;
mod iproute;
mod routes;

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use patchbay_types::endpoint::KATA_PORT;
use patchbay_wire::proto::kata as wire;
use patchbay_wire::proto::kata_ttrpc::{AgentService, Health, create_agent_service, create_health};
use ttrpc::r#async::{Server, TtrpcContext};
use ttrpc::{Code, Error, get_status};

/// Effects that changed in Kata 3.15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Updates {
    /// Removes addresses and routes that a request doesn't have, and ignores the path of a card.
    Replace,
    /// Keeps them, and waits for the card.
    Add,
}

struct Kata {
    version: String,
    updates: Updates,
}

/// Kata's agent reports each failure as this one.
fn internal(context: &str, error: &str) -> Error {
    let message = format!("{context}: {error}\n\nCaused by:\n    0: {error}");
    Error::RpcStatus(get_status(Code::INTERNAL, message))
}

#[async_trait]
impl Health for Kata {
    async fn version(
        &self,
        _: &TtrpcContext,
        _: wire::CheckRequest,
    ) -> ttrpc::Result<wire::VersionCheckResponse> {
        Ok(wire::VersionCheckResponse {
            agent_version: self.version.clone(),
            ..wire::VersionCheckResponse::default()
        })
    }
}

#[async_trait]
impl AgentService for Kata {
    async fn update_interface(
        &self,
        _: &TtrpcContext,
        request: wire::UpdateInterfaceRequest,
    ) -> ttrpc::Result<wire::Interface> {
        let interface = request.interface.unwrap_or_default();
        if self.updates == Updates::Add && !interface.devicePath.is_empty() {
            interfaces::wait_for(&interface.devicePath)
                .map_err(|error| internal("interface not available", &error))?;
        }
        interfaces::update(&interface, self.updates)
            .map_err(|error| internal("update interface", &error))?;
        Ok(interface)
    }

    async fn list_interfaces(
        &self,
        _: &TtrpcContext,
        _: wire::ListInterfacesRequest,
    ) -> ttrpc::Result<wire::Interfaces> {
        interfaces::list().map_err(|error| internal("list interfaces", &error))
    }

    async fn update_routes(
        &self,
        _: &TtrpcContext,
        request: wire::UpdateRoutesRequest,
    ) -> ttrpc::Result<wire::Routes> {
        let wanted = request.routes.unwrap_or_default();
        routes::update(&wanted, self.updates)
            .map_err(|error| internal("Failed to update routes", &error))?;
        routes::list().map_err(|error| internal("Failed to list routes after update", &error))
    }

    async fn list_routes(
        &self,
        _: &TtrpcContext,
        _: wire::ListRoutesRequest,
    ) -> ttrpc::Result<wire::Routes> {
        routes::list().map_err(|error| internal("list routes", &error))
    }

    async fn add_arp_neighbors(
        &self,
        _: &TtrpcContext,
        request: wire::AddARPNeighborsRequest,
    ) -> ttrpc::Result<wire::Nothing> {
        for neighbor in request.neighbors.unwrap_or_default().ARPNeighbors {
            let ip = neighbor.toIPAddress.unwrap_or_default().address;
            let (device, lladdr) = (&neighbor.device, &neighbor.lladdr);
            let words = format!("neigh replace {ip} lladdr {lladdr} nud permanent dev {device}");
            iproute::run(&words)
                .map_err(|error| internal("Failed to add ARP neighbours", &error))?;
        }
        Ok(wire::Nothing::default())
    }
}

async fn serve(version: String, updates: Updates) -> ttrpc::Result<()> {
    let kata = Arc::new(Kata { version, updates });
    let mut server = Server::new()
        .bind(&format!("vsock://-1:{KATA_PORT}"))?
        .register_service(create_agent_service(Arc::clone(&kata) as _))
        .register_service(create_health(kata as _));
    server.start().await?;
    std::future::pending().await
}

fn main() -> ExitCode {
    let Some(version) = std::env::args().nth(1) else {
        eprintln!("usage: patchbay-kata-agent VERSION");
        return ExitCode::from(2);
    };
    let numbers: Vec<u32> = version.split('.').filter_map(|n| n.parse().ok()).collect();
    let updates = if numbers < vec![3, 15] {
        Updates::Replace
    } else {
        Updates::Add
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            runtime
                .block_on(serve(version, updates))
                .map_err(|error| error.to_string())
        });
    if let Err(error) = served {
        eprintln!("patchbay-kata-agent: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
