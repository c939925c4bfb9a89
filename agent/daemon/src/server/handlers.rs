//! RPC handlers: decode the request, run it off the runtime's thread, encode the reply.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{AddressDetail, GuestNetns, LinkChange, LinkSpec, PciPath, SlotPower};
use patchbay_wire::convert;
use patchbay_wire::proto::agent::{
    CancelReply, CancelRequest, ConfigureInterfaceRequest, Configured, DeleteRoutesRequest,
    EnterNetnsReply, EnterNetnsRequest, HelloReply, HelloRequest, Interface, ListInterfacesReply,
    ListInterfacesRequest, ListManagersReply, ListManagersRequest, ListNeighborsReply,
    ListNeighborsRequest, ListRoutesReply, ListRoutesRequest, LocateCardsReply, LocateCardsRequest,
    MarkCardReply, MarkCardRequest, NeighborsReply, NeighborsRequest, ReleaseCardReply,
    ReleaseCardRequest, RoutesReply, RoutesRequest, UpdateInterfaceRequest,
};
use patchbay_wire::proto::agent_ttrpc::Agent;
use patchbay_wire::{API_VERSION, Feature, Token, layouts, status};
use slog::{Logger, debug, info, warn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use ttrpc::r#async::TtrpcContext;

use super::cancellations::Cancellations;
use super::changes::Changes;
use crate::namespaces::Namespaces;
use patchbay_netcfg::cancellation::Cancellation;
use patchbay_netcfg::ops::{Netcfg, kernel_release};

/// Maximum number of concurrent requests; each has a thread, since netlink blocks.
const MAX_REQUESTS: usize = 64;
/// Maximum number of rule files in memory.
const MAX_FILES: usize = 16;
/// Maximum wait for another rule file to finish.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum wait for a card to appear or to disappear, whatever the host requests.
const MAX_WAIT: Duration = Duration::from_secs(300);

pub(super) struct Handlers {
    netcfg: Netcfg,
    namespaces: Option<Arc<Namespaces>>,
    in_flight: Arc<Semaphore>,
    /// Requests that carry a rule file.
    files: Arc<Semaphore>,
    cancellations: Cancellations,
    /// `/proc/sys/kernel/random/boot_id`, or empty.
    boot_id: String,
    log: Logger,
}

impl Handlers {
    pub(super) fn new(netcfg: Netcfg, namespaces: Option<Namespaces>, log: Logger) -> Self {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        Self {
            boot_id: boot_id.unwrap_or_default().trim_end().to_owned(),
            netcfg,
            namespaces: namespaces.map(Arc::new),
            in_flight: Arc::new(Semaphore::new(MAX_REQUESTS)),
            files: Arc::new(Semaphore::new(MAX_FILES)),
            cancellations: Cancellations::default(),
            log,
        }
    }

    /// Reserves memory for a rule file. Waits, because a command that was killed in the middle of its
    /// file keeps a reservation for some seconds.
    pub(super) async fn file(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = tokio::time::timeout(FILE_TIMEOUT, Arc::clone(&self.files).acquire_owned());
        let busy = || Failure::new(Kind::NotYet, "the agent is receiving too many rule files");
        permit.await.map_err(|_| busy())?.map_err(|_| busy())
    }

    /// Runs one request on a separate thread, since netlink blocks, and logs how it ended: at level debug if it
    /// changed nothing.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        (request, context): (&'static str, &TtrpcContext),
        work: impl FnOnce(&Netcfg, &mut Changes) -> Result<T, Failure> + Send + 'static,
    ) -> ttrpc::Result<T> {
        let busy = |_| Failure::new(Kind::NotYet, "the agent has too many requests");
        let permit = Arc::clone(&self.in_flight).try_acquire_owned();
        let _permit = permit.map_err(|full| status::from_failure(&busy(full)))?;
        let begun = Instant::now();
        let cancellation = Cancellation::default();
        let token = Token::of_metadata(&context.metadata);
        let _in_progress = token.map(|token| self.cancellations.register(token, &cancellation));
        let netcfg = self.netcfg.clone().with_cancellation(&cancellation);
        let done = on_thread(move || {
            let mut changes = Changes::default();
            let outcome = work(&netcfg, &mut changes);
            Ok((outcome, changes))
        });
        let unknown = |failure| (Err(failure), Changes::default());
        let (outcome, changes) = done.await.unwrap_or_else(unknown);
        self.record(request, outcome.as_ref().err(), changes, begun.elapsed());
        outcome.map_err(|failure| status::from_failure(&failure))
    }

    /// Logs how a request ended. Not part of `run`, which the program contains once for each kind of reply.
    fn record(
        &self,
        request: &'static str,
        failure: Option<&Failure>,
        changes: Changes,
        took: Duration,
    ) {
        let micros = took.as_micros();
        match failure {
            None if changes.is_empty() => debug!(self.log, "request"; "request" => request,
                "outcome" => "done", "duration_us" => micros),
            None => info!(self.log, "request"; "request" => request, "outcome" => "done",
                changes, "duration_us" => micros),
            Some(failure) => warn!(self.log, "request"; "request" => request,
                "outcome" => format!("{:?}", failure.kind()), "error" => failure.to_string(),
                "chain" => failure.chain().collect::<Vec<_>>().join(": "),
                changes, "duration_us" => micros),
        }
    }
}

/// Runs work on a new thread, and fails if the guest has no thread left: a container can use up all of
/// them. The pool of the runtime panics in this case, which ends the agent.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (sender, result) = oneshot::channel();
    let begun = thread::Builder::new().spawn(move || {
        // The host has gone.
        let _ = sender.send(work());
    });
    begun.map_err(|error| {
        Failure::of_io("the guest has no thread for the request", &error).with_kind(Kind::NotYet)
    })?;
    let ended = |_| Failure::new(Kind::Other, "the request ended without a result");
    result.await.map_err(ended)?
}

/// Implements the RPCs of a service that have one request and one reply, inside of its
/// `#[async_trait]` block: the work runs on a thread and is logged under the given name. The signature
/// is the one that `async_trait` makes of an `async fn`, since it doesn't look into macros. A request that
/// changes something names the record of its changes last.
macro_rules! unary {
    ($(
        $name:literal: $rpc:ident(
            $netcfg:ident, $request:ident: $Request:ty $(, $changes:ident)?
        ) -> $Reply:ty
        $work:block
    )*) => {$(
        fn $rpc<'a, 'b, 'async_trait>(
            &'a self,
            context: &'b ::ttrpc::r#async::TtrpcContext,
            $request: $Request,
        ) -> ::futures::future::BoxFuture<'async_trait, ::ttrpc::Result<$Reply>>
        where
            'a: 'async_trait,
            'b: 'async_trait,
        {
            Box::pin(self.run(($name, context), move |$netcfg, _changes| {
                $(let $changes = _changes;)?
                $work
            }))
        }
    )*};
}
pub(super) use unary;

#[async_trait]
impl Agent for Handlers {
    /// Replies without a lock or a system call that blocks, since every command waits for it.
    async fn hello(&self, _: &TtrpcContext, _: HelloRequest) -> ttrpc::Result<HelloReply> {
        let has = |feature: &Feature| match feature {
            Feature::MarkCard => self.netcfg.has_marks(),
            Feature::Netns => self.namespaces.is_some(),
            _ => true,
        };
        let features = Feature::ALL.into_iter().filter(has).map(Feature::name);
        let features = features.chain([self.netcfg.ethtool_feature()]);
        Ok(HelloReply {
            api_version: API_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: kernel_release(),
            features: features.map(str::to_owned).collect(),
            layouts: Some(layouts()).into(),
            boot_id: self.boot_id.clone(),
            ..HelloReply::default()
        })
    }

    /// Replies without the threads of requests, which can all be busy.
    async fn cancel(&self, _: &TtrpcContext, request: CancelRequest) -> ttrpc::Result<CancelReply> {
        self.cancellations.request(Token(request.token));
        Ok(CancelReply::default())
    }

    async fn enter_netns(
        &self,
        context: &TtrpcContext,
        request: EnterNetnsRequest,
    ) -> ttrpc::Result<EnterNetnsReply> {
        let namespaces = self.namespaces.clone();
        let enter = move |_: &Netcfg, changes: &mut Changes| {
            let lacks = || Failure::new(Kind::Unsupported, "this agent serves no other namespace");
            let netns = GuestNetns::try_from(&request)?;
            changes.name("netns", &netns);
            Ok(EnterNetnsReply {
                port: namespaces.ok_or_else(lacks)?.enter(&netns)?,
                ..EnterNetnsReply::default()
            })
        };
        self.run(("enter_netns", context), enter).await
    }

    unary! {
        "configure_interface": configure_interface(
            netcfg, request: ConfigureInterfaceRequest, changes
        ) -> Configured {
            let (path, spec): (PciPath, LinkSpec) = (&request).try_into()?;
            changes.name("interface", &spec.parts().name);
            changes.name("mac", spec.parts().mac);
            changes.name("pci", &path);
            let wait = Duration::from_millis(request.wait_ms.into()).min(MAX_WAIT);
            let yielding = convert::yielding(&request)?;
            let done = netcfg.configure(&path, &spec, &yielding, Instant::now() + wait)?;
            let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
            Ok(Configured {
                interface: Some((&done.interface).into()).into(),
                discovery_us: micros(done.discovery),
                netlink_us: micros(done.netlink),
                ..Configured::default()
            })
        }

        "mark_card": mark_card(
            netcfg, request: MarkCardRequest, changes
        ) -> MarkCardReply {
            let mac = (&request).try_into()?;
            changes.name("mac", mac);
            netcfg.mark_card(mac)?;
            Ok(MarkCardReply::default())
        }

        "list_managers": list_managers(
            netcfg, _request: ListManagersRequest
        ) -> ListManagersReply {
            Ok(ListManagersReply {
                managers: netcfg.managers()?.iter().map(Into::into).collect(),
                ..ListManagersReply::default()
            })
        }

        "list_interfaces": list_interfaces(
            netcfg, request: ListInterfacesRequest
        ) -> ListInterfacesReply {
            let detail = AddressDetail::from(&request);
            Ok(ListInterfacesReply {
                interfaces: netcfg.list(detail)?.iter().map(Into::into).collect(),
                ..ListInterfacesReply::default()
            })
        }

        "locate_cards": locate_cards(
            netcfg, request: LocateCardsRequest
        ) -> LocateCardsReply {
            let places = netcfg.places(&convert::paths(&request)?).map_err(|error| {
                Failure::of_io("could not list the PCI devices", &error)
            })?;
            Ok(LocateCardsReply {
                places: places.iter().map(Into::into).collect(),
                ..LocateCardsReply::default()
            })
        }

        "update_interface": update_interface(
            netcfg, request: UpdateInterfaceRequest, changes
        ) -> Interface {
            let detail = AddressDetail::from(&request);
            let change = LinkChange::try_from(&request)?;
            changes.name("interface", change.name());
            Ok((&netcfg.update(&change, detail)?).into())
        }

        "release_card": release_card(
            netcfg, request: ReleaseCardRequest, changes
        ) -> ReleaseCardReply {
            let (path, power): (PciPath, SlotPower) = (&request).try_into()?;
            changes.name("pci", &path);
            let wait = Duration::from_millis(request.wait_ms.into()).min(MAX_WAIT);
            netcfg.release(&path, power, Instant::now() + wait)?;
            Ok(ReleaseCardReply::default())
        }

        "add_routes": add_routes(netcfg, request: RoutesRequest, changes) -> RoutesReply {
            let specs = convert::specs(&request)?;
            changes.count("routes", specs.len());
            netcfg.add_routes(&specs)?;
            Ok(RoutesReply::default())
        }

        "replace_routes": replace_routes(
            netcfg, request: RoutesRequest, changes
        ) -> RoutesReply {
            let specs = convert::specs(&request)?;
            changes.count("routes", specs.len());
            netcfg.replace_routes(&specs)?;
            Ok(RoutesReply::default())
        }

        "delete_routes": delete_routes(
            netcfg, request: DeleteRoutesRequest, changes
        ) -> RoutesReply {
            let patterns = convert::patterns(&request)?;
            changes.count("routes", patterns.len());
            netcfg.delete_routes(&patterns)?;
            Ok(RoutesReply::default())
        }

        "list_routes": list_routes(netcfg, request: ListRoutesRequest) -> ListRoutesReply {
            Ok(convert::routes_reply(&netcfg.routes()?, request.max_layout))
        }

        "add_neighbors": add_neighbors(
            netcfg, request: NeighborsRequest, changes
        ) -> NeighborsReply {
            let neighbors = convert::new_neighbors(&request)?;
            changes.count("neighbors", neighbors.len());
            netcfg.add_neighbors(&neighbors)?;
            Ok(NeighborsReply::default())
        }

        "delete_neighbors": delete_neighbors(
            netcfg, request: NeighborsRequest, changes
        ) -> NeighborsReply {
            let patterns = convert::neighbor_patterns(&request)?;
            changes.count("neighbors", patterns.len());
            netcfg.delete_neighbors(&patterns)?;
            Ok(NeighborsReply::default())
        }

        "list_neighbors": list_neighbors(
            netcfg, _request: ListNeighborsRequest
        ) -> ListNeighborsReply {
            Ok(convert::neighbors_reply(&netcfg.neighbors()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    /// User without a capability.
    const USER: libc::c_long = 1000;

    /// Sets the number of processes and threads that a user can have, at most the hard limit.
    fn limit_threads(number: libc::rlim_t) {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        #[expect(
            unsafe_code,
            reason = "nix does not wrap these calls without a feature"
        )]
        // SAFETY: the structure outlives the calls.
        let results = unsafe {
            let read = libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit);
            limit.rlim_cur = number.min(limit.rlim_max);
            (read, libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit))
        };
        assert_eq!(results, (0, 0));
    }

    #[test]
    fn on_thread_without_a_thread_fails_and_later_work_is_done() {
        #[expect(unsafe_code, reason = "changes the user of this thread only")]
        // SAFETY: takes and returns integers only.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, USER, USER, USER) };
        assert_eq!(result, 0);
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            limit_threads(0);
            let refused = on_thread(|| Ok(())).await.unwrap_err();
            assert_eq!(refused.kind(), Kind::NotYet);
            let start = "the guest has no thread for the request: ";
            assert!(refused.line().starts_with(start), "{}", refused.line());
            limit_threads(libc::RLIM_INFINITY);
            assert_eq!(on_thread(|| Ok(7)).await.unwrap(), 7);
        });
    }
}
