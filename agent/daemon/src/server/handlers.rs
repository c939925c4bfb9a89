//! The requests: read the wire, let the service work off the runtime's thread, write the wire.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{LinkChange, LinkSpec, PciPath};
use patchbay_wire::convert;
use patchbay_wire::proto::agent::{
    ConfigureInterfaceRequest, Configured, DeleteRoutesRequest, HelloReply, HelloRequest,
    Interface, ListInterfacesReply, ListInterfacesRequest, ListRoutesReply, ListRoutesRequest,
    RoutesReply, RoutesRequest, UpdateInterfaceRequest,
};
use patchbay_wire::proto::agent_ttrpc::Agent;
use patchbay_wire::{API_VERSION, Feature, layouts, status};
use slog::{Logger, info, warn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use ttrpc::r#async::TtrpcContext;

use patchbay_netcfg::ops::{Error, Netcfg};

/// Most requests that are worked on at once; each has a thread, since netlink blocks.
pub const IN_FLIGHT: usize = 64;
/// Most rule files that are held at once.
const FILES: usize = 16;
/// Longest wait for a place among them.
const FILE_WAIT: Duration = Duration::from_secs(10);

/// Longest that a card is waited for, whatever the host asks.
const MAX_WAIT: Duration = Duration::from_secs(300);

pub(super) struct Handlers {
    services: Arc<Netcfg>,
    in_flight: Arc<Semaphore>,
    /// Of those, the ones that bring a rule file, which is held in memory.
    files: Arc<Semaphore>,
    log: Logger,
}

impl Handlers {
    pub(super) fn new(services: Arc<Netcfg>, log: Logger) -> Self {
        Self {
            services,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            files: Arc::new(Semaphore::new(FILES)),
            log,
        }
    }

    /// A place among those that bring a rule file. It is waited for: a host's command that was
    /// killed in the middle of its file keeps one for some seconds.
    pub(super) async fn file(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let place = tokio::time::timeout(FILE_WAIT, Arc::clone(&self.files).acquire_owned());
        let busy = "the agent is being sent too many other rule files";
        let busy = || Failure::new(Kind::NotYet, busy);
        place.await.map_err(|_| busy())?.map_err(|_| busy())
    }

    /// Runs one request on a thread of its own, since netlink blocks, and logs how it ended.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        request: &'static str,
        work: impl FnOnce(&Netcfg) -> Result<T, Failure> + Send + 'static,
    ) -> ttrpc::Result<T> {
        let _place = place(&self.in_flight, "the agent has too many requests")
            .map_err(|failure| status::from_failure(&failure))?;
        let begun = Instant::now();
        let services = Arc::clone(&self.services);
        let outcome = tokio::task::spawn_blocking(move || work(&services))
            .await
            .unwrap_or_else(|panic| Err(Failure::of(Kind::Other, &panic)));
        let micros = begun.elapsed().as_micros();
        match &outcome {
            Ok(_) => info!(self.log, "request"; "request" => request, "outcome" => "done",
                "duration_us" => micros),
            Err(failure) => warn!(self.log, "request"; "request" => request,
                "outcome" => format!("{:?}", failure.kind()), "error" => failure.to_string(),
                "chain" => failure.chain().collect::<Vec<_>>().join(": "),
                "duration_us" => micros),
        }
        outcome.map_err(|failure| status::from_failure(&failure))
    }
}

fn place(places: &Arc<Semaphore>, taken: &str) -> Result<OwnedSemaphorePermit, Failure> {
    let place = Arc::clone(places).try_acquire_owned();
    place.map_err(|_| Failure::new(Kind::NotYet, taken))
}

#[async_trait]
impl Agent for Handlers {
    /// Replies without a lock or a system call that blocks, since every command waits for it.
    async fn hello(&self, _: &TtrpcContext, _: HelloRequest) -> ttrpc::Result<HelloReply> {
        let features = Feature::ALL.map(Feature::name).into_iter();
        let features = features.chain([self.services.ethtool()]);
        Ok(HelloReply {
            api_version: API_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: self.services.kernel_release(),
            features: features.map(str::to_owned).collect(),
            layouts: Some(layouts()).into(),
            ..HelloReply::default()
        })
    }

    async fn configure_interface(
        &self,
        _: &TtrpcContext,
        request: ConfigureInterfaceRequest,
    ) -> ttrpc::Result<Configured> {
        self.run("configure_interface", move |services| {
            let (path, spec): (PciPath, LinkSpec) = (&request).try_into()?;
            let wait = Duration::from_millis(request.wait_ms.into()).min(MAX_WAIT);
            let done = services.configure(&path, &spec, Instant::now() + wait);
            let done = done.map_err(|error| Failure::from(&error))?;
            let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
            Ok(Configured {
                interface: Some((&done.interface).into()).into(),
                discovery_us: micros(done.discovery),
                netlink_us: micros(done.netlink),
                ..Configured::default()
            })
        })
        .await
    }

    async fn list_interfaces(
        &self,
        _: &TtrpcContext,
        _: ListInterfacesRequest,
    ) -> ttrpc::Result<ListInterfacesReply> {
        self.run("list_interfaces", |services| {
            let interfaces = services.list().map_err(|error| Failure::from(&error))?;
            Ok(ListInterfacesReply {
                interfaces: interfaces.iter().map(Into::into).collect(),
                ..ListInterfacesReply::default()
            })
        })
        .await
    }

    async fn update_interface(
        &self,
        _: &TtrpcContext,
        request: UpdateInterfaceRequest,
    ) -> ttrpc::Result<Interface> {
        self.run("update_interface", move |services| {
            let done = services.update(&LinkChange::try_from(&request)?);
            done.map(|interface| (&interface).into())
                .map_err(|error| (&error).into())
        })
        .await
    }

    async fn add_routes(
        &self,
        _: &TtrpcContext,
        request: RoutesRequest,
    ) -> ttrpc::Result<RoutesReply> {
        self.run("add_routes", move |services| {
            let done = services.add_routes(&convert::specs(&request)?);
            routes_done(&done)
        })
        .await
    }

    async fn replace_routes(
        &self,
        _: &TtrpcContext,
        request: RoutesRequest,
    ) -> ttrpc::Result<RoutesReply> {
        self.run("replace_routes", move |services| {
            let done = services.replace_routes(&convert::specs(&request)?);
            routes_done(&done)
        })
        .await
    }

    async fn delete_routes(
        &self,
        _: &TtrpcContext,
        request: DeleteRoutesRequest,
    ) -> ttrpc::Result<RoutesReply> {
        self.run("delete_routes", move |services| {
            let done = services.delete_routes(&convert::patterns(&request)?);
            routes_done(&done)
        })
        .await
    }

    async fn list_routes(
        &self,
        _: &TtrpcContext,
        _: ListRoutesRequest,
    ) -> ttrpc::Result<ListRoutesReply> {
        self.run("list_routes", |services| {
            let routes = services.routes().map_err(|error| Failure::from(&error))?;
            Ok(convert::routes_reply(&routes))
        })
        .await
    }
}

fn routes_done(done: &Result<(), Error>) -> Result<RoutesReply, Failure> {
    match done {
        Ok(()) => Ok(RoutesReply::default()),
        Err(error) => Err(error.into()),
    }
}
