//! Fake agent, for behaviour that a real one doesn't show.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use async_trait::async_trait;
use patchbay_types::failure::Failure;
use patchbay_wire::API_VERSION;
use patchbay_wire::convert::routes_reply;
use patchbay_wire::proto::agent::{
    ConfigureInterfaceRequest, Configured, HelloReply, HelloRequest, ListInterfacesReply,
    ListInterfacesRequest, ListRoutesReply, ListRoutesRequest,
};
use patchbay_wire::proto::agent_ttrpc::{Agent, create_agent};
use patchbay_wire::proto::ipvs::{ChangeReply, ChangeRequest, RestoreChunk, RestoreReply};
use patchbay_wire::proto::ipvs_ttrpc::{Ipvs, create_ipvs};
use ttrpc::r#async::{Server, ServerStreamReceiver, TtrpcContext};

/// Reaction to a request to configure a card.
#[derive(Debug, Clone)]
pub enum Configure {
    /// Answers with this failure.
    Refuse(Failure),
    /// Never answers.
    Hang,
}

/// An agent without optional features that answers handshakes and lists like that of a guest without cards,
/// and accepts every rule and rule file. It serves until the process exits.
#[derive(Debug)]
pub struct FakeAgent {
    requests: mpsc::Receiver<ConfigureInterfaceRequest>,
}

impl FakeAgent {
    /// Serves on a Unix socket at this path.
    pub fn serve(path: &Path, configure: Configure) -> Self {
        let (sender, requests) = mpsc::channel();
        let (ready, bound) = mpsc::channel();
        let address = format!("unix://{}", path.display());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let service = create_agent(Arc::new(Answers { configure, sender }));
                let mut server = Server::new()
                    .bind(&address)
                    .unwrap()
                    .register_service(service)
                    .register_service(create_ipvs(Arc::new(Rules)));
                server.start().await.unwrap();
                ready.send(()).unwrap();
                std::future::pending::<()>().await;
            });
        });
        bound.recv().unwrap();
        Self { requests }
    }

    /// Waits for the next request to configure a card.
    pub fn next_request(&self) -> ConfigureInterfaceRequest {
        self.requests
            .recv_timeout(std::time::Duration::from_secs(60))
            .unwrap()
    }
}

struct Answers {
    configure: Configure,
    sender: mpsc::Sender<ConfigureInterfaceRequest>,
}

#[async_trait]
impl Agent for Answers {
    async fn hello(&self, _: &TtrpcContext, _: HelloRequest) -> ttrpc::Result<HelloReply> {
        Ok(HelloReply {
            api_version: API_VERSION,
            ..HelloReply::default()
        })
    }

    async fn configure_interface(
        &self,
        _: &TtrpcContext,
        request: ConfigureInterfaceRequest,
    ) -> ttrpc::Result<Configured> {
        // Fails if the test dropped the receiver because it doesn't look at requests.
        let _ = self.sender.send(request);
        match &self.configure {
            Configure::Refuse(failure) => Err(patchbay_wire::status::from_failure(failure)),
            Configure::Hang => std::future::pending().await,
        }
    }

    async fn list_interfaces(
        &self,
        _: &TtrpcContext,
        _: ListInterfacesRequest,
    ) -> ttrpc::Result<ListInterfacesReply> {
        Ok(ListInterfacesReply::default())
    }

    async fn list_routes(
        &self,
        _: &TtrpcContext,
        _: ListRoutesRequest,
    ) -> ttrpc::Result<ListRoutesReply> {
        Ok(routes_reply(&[], 0))
    }
}

struct Rules;

#[async_trait]
impl Ipvs for Rules {
    async fn change(&self, _: &TtrpcContext, _: ChangeRequest) -> ttrpc::Result<ChangeReply> {
        Ok(ChangeReply::default())
    }

    async fn restore(
        &self,
        _: &TtrpcContext,
        mut stream: ServerStreamReceiver<RestoreChunk>,
    ) -> ttrpc::Result<RestoreReply> {
        while stream.recv().await?.is_some() {}
        Ok(RestoreReply::default())
    }
}
