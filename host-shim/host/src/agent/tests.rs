//! The client against agents of other releases.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use async_trait::async_trait;
use patchbay_codec::Bulk;
use patchbay_grammar::ipvsadm::{Grammar, read_rules};
use patchbay_types::conntrack::{Filter, FilterFields, Masked};
use patchbay_types::ipvs::{RestoreMode, RestoreProgress, Restored};
use patchbay_types::{RouteRequest, RouteTable};
use patchbay_wire::proto::agent_ttrpc::{self, create_agent};
use patchbay_wire::proto::ipvs as ipvs_wire;
use patchbay_wire::proto::ipvs_ttrpc::{Ipvs, create_ipvs};
use ttrpc::r#async::{Server, ServerStream, ServerStreamReceiver, TtrpcContext};

use super::*;

/// Agent with a single route that announces whatever a test wants.
struct FakeAgent {
    hello: wire::HelloReply,
    /// Number of changes that it has received.
    changes: Arc<AtomicUsize>,
}

#[async_trait]
impl agent_ttrpc::Agent for FakeAgent {
    async fn hello(
        &self,
        _: &TtrpcContext,
        _: wire::HelloRequest,
    ) -> ttrpc::Result<wire::HelloReply> {
        Ok(self.hello.clone())
    }

    async fn replace_routes(
        &self,
        _: &TtrpcContext,
        _: wire::RoutesRequest,
    ) -> ttrpc::Result<wire::RoutesReply> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        Ok(wire::RoutesReply::default())
    }

    async fn list_routes(
        &self,
        _: &TtrpcContext,
        _: wire::ListRoutesRequest,
    ) -> ttrpc::Result<wire::ListRoutesReply> {
        let mut reply = convert::routes_reply(&[route()], 0);
        let unknown = reply.special_fields.mut_unknown_fields();
        unknown.add_varint(999, 7);
        Ok(reply)
    }
}

/// Applies a rule file of seven changes.
struct FakeIpvs;

#[async_trait]
impl Ipvs for FakeIpvs {
    async fn restore(
        &self,
        _: &TtrpcContext,
        mut stream: ServerStreamReceiver<ipvs_wire::RestoreChunk>,
    ) -> ttrpc::Result<ipvs_wire::RestoreReply> {
        while stream.recv().await?.is_some() {}
        Ok(ipvs_wire::RestoreReply::default())
    }

    async fn restore_with_progress(
        &self,
        _: &TtrpcContext,
        mut stream: ServerStream<ipvs_wire::RestoreProgress, ipvs_wire::RestoreChunk>,
    ) -> ttrpc::Result<()> {
        while stream.recv().await?.is_some() {}
        for done in [3, 7] {
            let progress = RestoreProgress { done, total: 7 };
            stream.send(&progress.into()).await?;
        }
        let reply = Restored {
            added: 7,
            ..Restored::default()
        };
        let last = ipvs_wire::RestoreProgress {
            reply: Some(reply.into()).into(),
            ..ipvs_wire::RestoreProgress::default()
        };
        stream.send(&last).await
    }
}

fn route() -> Route {
    let request = RouteRequest::open("10.0.0.0/8".parse().unwrap(), "eth1".parse().unwrap());
    Route {
        protocol: None,
        ..RouteSpec::new(request).unwrap().resolve()
    }
}

/// Reply of the first release, with these features.
pub(super) fn hello(features: &[&str]) -> wire::HelloReply {
    wire::HelloReply {
        api_version: API_VERSION,
        agent_version: "0.1.0".to_owned(),
        features: features.iter().map(ToString::to_string).collect(),
        ..wire::HelloReply::default()
    }
}

fn serve(dir: &Path, reply: wire::HelloReply) -> Agent {
    serve_counting(dir, reply, Arc::default())
}

fn serve_counting(dir: &Path, hello: wire::HelloReply, changes: Arc<AtomicUsize>) -> Agent {
    serve_agent(dir, FakeAgent { hello, changes }, &Interrupt::default())
}

/// Serves a fake agent, and connects to it.
pub(super) fn serve_agent(
    dir: &Path,
    agent: impl agent_ttrpc::Agent + Send + 'static,
    interrupt: &Interrupt,
) -> Agent {
    let address = serve_unix(&dir.join("agent.sock"), |server| {
        let server = server.register_service(create_agent(Arc::new(agent)));
        server.register_service(create_ipvs(Arc::new(FakeIpvs)))
    });
    Agent::connect(&address.parse().unwrap(), interrupt).unwrap()
}

/// Serves on a Unix socket until the process ends; returns the address.
pub(super) fn serve_unix(
    path: &Path,
    register: impl FnOnce(Server) -> Server + Send + 'static,
) -> String {
    let address = format!("unix://{}", path.display());
    let (ready, bound) = mpsc::channel();
    let server_address = address.clone();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut server = register(Server::new().bind(&server_address).unwrap());
            server.start().await.unwrap();
            ready.send(()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    bound.recv().unwrap();
    address
}

#[test]
fn agent_of_another_version_gets_no_change() {
    let (dir, changes) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(0)));
    let other = wire::HelloReply {
        api_version: API_VERSION + 1,
        ..hello(&[])
    };
    let agent = serve_counting(dir.path(), other, Arc::clone(&changes));
    for _ in 0..20 {
        let failure = agent.replace_routes(&[]).unwrap_err();
        assert_eq!(failure.kind(), Kind::Unsupported);
        assert_eq!(agent.routes().unwrap_err().kind(), Kind::Unsupported);
    }
    assert_eq!(changes.load(Ordering::SeqCst), 0);
    let (dir, changes) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(0)));
    let agent = serve_counting(dir.path(), hello(&[]), Arc::clone(&changes));
    agent.replace_routes(&[]).unwrap();
    assert_eq!(changes.load(Ordering::SeqCst), 1);
}

#[test]
fn agent_without_feature_is_unsupported_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let agent = serve(dir.path(), hello(&["interfaces", "conntrack"]));
    let failures = [
        agent.routes().unwrap_err(),
        agent.add_routes(&[]).unwrap_err(),
        agent.require(Feature::Routes).unwrap_err(),
    ];
    for failure in failures {
        assert_eq!(failure.kind(), Kind::Unsupported);
        assert_eq!(failure.kind().exit_code(), 7);
        let message = failure.to_string();
        assert!(message.contains("lacks the feature 'routes'"), "{message}");
    }
    agent.require(Feature::Conntrack).unwrap();
}

#[test]
fn filter_that_agent_ignores_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let agent = serve(dir.path(), hello(&["conntrack"]));
    let masked = |address: &str, mask: &str| {
        let masked = Masked::new(address.parse().unwrap(), mask.parse().unwrap());
        Some(masked.unwrap())
    };
    let mut fields = [FilterFields::default(); 5];
    fields[0].icmp.kind = Some(8);
    fields[1].labels = 1;
    fields[2].reply.zone = Some(0);
    fields[3].orig.dst = masked("10.0.0.1", "255.0.255.0");
    (fields[4].protocol, fields[4].state) = (Some(132), Some(4));
    for fields in fields {
        let filter = Filter::new(fields).unwrap();
        let deleted = agent.conntrack_delete(&filter);
        let listed = agent.conntrack_list(Some(&filter));
        for failure in [deleted.unwrap_err(), listed.unwrap_err()] {
            assert_eq!(failure.kind(), Kind::Unsupported, "{filter:?}: {failure}");
            assert!(
                failure.to_string().contains("'conntrack-criteria'"),
                "{failure}"
            );
        }
    }
}

#[test]
fn agent_without_feature_list_has_all_of_the_first_release() {
    let dir = tempfile::tempdir().unwrap();
    let agent = serve(dir.path(), hello(&[]));
    assert_eq!(agent.routes().unwrap(), [route()]);
    for feature in Feature::ALL {
        let first = Feature::FIRST.contains(&feature);
        assert_eq!(agent.require(feature).is_ok(), first, "{feature}");
    }
    agent
        .mark_card("02:00:00:00:00:01".parse().unwrap())
        .unwrap();
    assert_eq!(agent.managers(), Ok(None));
    assert_eq!(agent.places(&[]).unwrap_err().kind(), Kind::Unsupported);
    let greeting = agent.greeting().unwrap();
    assert!(greeting.require_layout(Bulk::Routes, 0).is_ok());
    let failure = greeting.require_layout(Bulk::Routes, 1).unwrap_err();
    assert_eq!(failure.kind(), Kind::Unsupported);
    assert!(
        failure.to_string().contains("lacks layout 1 of routes"),
        "{failure}"
    );
}

#[test]
fn agent_without_route_fields_is_unsupported_only_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let agent = serve(dir.path(), hello(&["routes"]));
    let request = RouteRequest::open("10.0.0.0/8".parse().unwrap(), "eth1".parse().unwrap());
    let in_table = RouteRequest {
        table: RouteTable::try_from(99).unwrap(),
        ..request.clone()
    };
    let plain = RouteSpec::new(request).unwrap();
    let specs = [plain.clone(), RouteSpec::new(in_table).unwrap()];
    for failure in [
        agent.add_routes(&specs).unwrap_err(),
        agent.replace_routes(&specs).unwrap_err(),
    ] {
        assert_eq!(failure.kind(), Kind::Unsupported);
        let message = failure.to_string();
        assert!(
            message.contains("lacks layout 1 of routes (onlink, mtu"),
            "{message}"
        );
    }
    // The fake agent has no such method, so the request was sent.
    let failure = agent.add_routes(&[plain]).unwrap_err();
    assert!(!failure.to_string().contains("layout"), "{failure}");
}

#[test]
fn rule_that_agent_misreads_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let agent = serve(dir.path(), hello(&["ipvs"]));
    let file = |text| read_rules(&Grammar::NUMERIC, text).unwrap();
    let server = "-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -g --keep-port";
    let change = file(server).remove(0).change;
    let restore = |text| {
        let lines = file(text);
        let restored = agent.ipvs_restore(&lines, RestoreMode::Empty, 9, None);
        restored.unwrap_err()
    };
    for failure in [
        agent.ipvs_change(&change, 9).unwrap_err(),
        restore(server),
        restore("-C\n--start-daemon master\n"),
    ] {
        assert_eq!(failure.kind(), Kind::Unsupported, "{failure}");
        let message = failure.to_string();
        assert!(
            message.contains("lacks layout 1 of IPVS rules"),
            "{message}"
        );
    }
}

#[test]
fn restore_progress_is_the_agents_if_it_reports_any() {
    let lines = read_rules(&Grammar::NUMERIC, "-A -t 10.0.0.1:80\n-A -t 10.0.0.2:80\n").unwrap();
    let applied = |done| RestoreState::Applied(RestoreProgress { done, total: 7 });
    for (features, expected, added) in [
        (&["ipvs"][..], vec![RestoreState::Sent(2)], 0),
        (
            &["ipvs", "restore-progress"],
            vec![applied(3), applied(7)],
            7,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let agent = serve(dir.path(), hello(features));
        let mut states = Vec::new();
        let mut watch = |state| states.push(state);
        let restored = agent.ipvs_restore(&lines, RestoreMode::Empty, 9, Some(&mut watch));
        assert_eq!(restored.unwrap().added, added);
        assert_eq!(states, expected);
        // Without a watch the progress is not asked for.
        let restored = agent.ipvs_restore(&lines, RestoreMode::Empty, 9, None);
        assert_eq!(restored.unwrap().added, 0);
    }
}

#[test]
fn newer_agent_with_unknown_features_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut reply = hello(&["teleport", "routes"]);
    reply.special_fields.mut_unknown_fields().add_varint(999, 7);
    let layouts = wire::Layouts {
        routes: 3,
        ..wire::Layouts::default()
    };
    reply.layouts = Some(layouts).into();
    let agent = serve(dir.path(), reply);
    assert_eq!(agent.routes().unwrap(), [route()]);
    assert_eq!(agent.greeting().unwrap().features, ["teleport", "routes"]);
    let greeting = agent.greeting().unwrap();
    assert!(greeting.require_layout(Bulk::Routes, 3).is_ok());
}

#[test]
fn agent_of_another_api_version_is_unsupported() {
    let dir = tempfile::tempdir().unwrap();
    let reply = wire::HelloReply {
        api_version: API_VERSION + 1,
        ..hello(&["routes"])
    };
    let failure = serve(dir.path(), reply).routes().unwrap_err();
    assert_eq!(failure.kind(), Kind::Unsupported);
}

#[test]
fn connect_without_agent_advises_to_start_it() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = format!("unix://{}/none", dir.path().display());
    let failure = Agent::connect(&endpoint.parse().unwrap(), &Interrupt::default()).unwrap_err();
    assert_eq!(failure.kind(), Kind::NotFound);
    let advice = failure.chain().last().unwrap();
    assert!(
        advice.starts_with("start patchbay-agent in the guest"),
        "{advice}"
    );
}
