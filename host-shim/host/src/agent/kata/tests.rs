use std::io::{BufRead as _, BufReader, Write as _, copy};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{AddressDetail, Arp, LinkFields, LinkSpec, Mtu, PciAddress, PciPath};
use patchbay_wire::proto::kata as wire;
use patchbay_wire::proto::kata_ttrpc::{AgentService, Health, create_agent_service, create_health};
use ttrpc::r#async::TtrpcContext;

use super::super::tests::serve_unix;
use super::super::{AgentKind, AnyAgent, Effect, GuestWait, connect};
use crate::interrupt::Interrupt;

struct Kata;

#[async_trait]
impl Health for Kata {
    async fn version(
        &self,
        _: &TtrpcContext,
        _: wire::CheckRequest,
    ) -> ttrpc::Result<wire::VersionCheckResponse> {
        Ok(wire::VersionCheckResponse {
            agent_version: "3.19.1".to_owned(),
            ..wire::VersionCheckResponse::default()
        })
    }
}

/// Reports a link whose name and addresses are hostile.
#[async_trait]
impl AgentService for Kata {
    async fn list_interfaces(
        &self,
        _: &TtrpcContext,
        _: wire::ListInterfacesRequest,
    ) -> ttrpc::Result<wire::Interfaces> {
        let address = |address: &str, mask: &str| wire::IPAddress {
            address: address.to_owned(),
            mask: mask.to_owned(),
            ..wire::IPAddress::default()
        };
        let interface = wire::Interface {
            name: "eth1".to_owned(),
            hwAddr: "no MAC".to_owned(),
            mtu: u64::MAX,
            IPAddresses: vec![
                address("10.0.0.1", "24"),
                address("10.0.0.2", "33"),
                address("fe80::1", "64"),
                address("", ""),
            ],
            ..wire::Interface::default()
        };
        let unnamed = wire::Interface::default();
        Ok(wire::Interfaces {
            Interfaces: vec![interface, unnamed],
            ..wire::Interfaces::default()
        })
    }
}

const LATE_MAC: &str = "02:00:00:00:00:05";

/// Agent to which a card appears between its first attempt to configure it and the list after that.
#[derive(Default)]
struct LateCard {
    attempts: AtomicU32,
}

#[async_trait]
impl Health for LateCard {
    async fn version(
        &self,
        context: &TtrpcContext,
        request: wire::CheckRequest,
    ) -> ttrpc::Result<wire::VersionCheckResponse> {
        Kata.version(context, request).await
    }
}

#[async_trait]
impl AgentService for LateCard {
    async fn update_interface(
        &self,
        _: &TtrpcContext,
        request: wire::UpdateInterfaceRequest,
    ) -> ttrpc::Result<wire::Interface> {
        match self.attempts.fetch_add(1, Ordering::Relaxed) {
            0 => Err(ttrpc::Error::Others("Link not found".to_owned())),
            _ => Ok(request.interface.unwrap_or_default()),
        }
    }

    async fn list_interfaces(
        &self,
        _: &TtrpcContext,
        _: wire::ListInterfacesRequest,
    ) -> ttrpc::Result<wire::Interfaces> {
        let card = wire::Interface {
            name: "eth5".to_owned(),
            hwAddr: LATE_MAC.to_owned(),
            mtu: 1500,
            ..wire::Interface::default()
        };
        Ok(wire::Interfaces {
            Interfaces: vec![card],
            ..wire::Interfaces::default()
        })
    }
}

/// Server at the port of Kata's agent.
#[derive(Clone, Copy)]
enum Service {
    Kata,
    LateCard,
    Other,
}

/// Serves a service on a Unix socket.
fn serve(path: &Path, service: Service) {
    serve_unix(path, move |server| {
        if let Service::LateCard = service {
            let late = Arc::new(LateCard::default());
            let server = server.register_service(create_agent_service(Arc::clone(&late) as _));
            return server.register_service(create_health(late as _));
        }
        let kata = Arc::new(Kata);
        let server = server.register_service(create_agent_service(Arc::clone(&kata) as _));
        match service {
            Service::Kata => server.register_service(create_health(kata as _)),
            Service::LateCard | Service::Other => server,
        }
    });
}

/// Serves hybrid vsock for a guest that listens on Kata's port alone; returns the ports of the attempts.
fn serve_hybrid(path: &Path, kata: &Path) -> Arc<Mutex<Vec<u32>>> {
    let listener = UnixListener::bind(path).unwrap();
    let (ports, kata) = (Arc::new(Mutex::new(Vec::new())), kata.to_owned());
    let seen = Arc::clone(&ports);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::with_capacity(1, &stream)
                .read_line(&mut line)
                .unwrap();
            let port = line
                .trim()
                .strip_prefix("CONNECT ")
                .unwrap()
                .parse()
                .unwrap();
            seen.lock().unwrap().push(port);
            if port != 1024 {
                continue;
            }
            stream.write_all(b"OK 1024\n").unwrap();
            let server = UnixStream::connect(&kata).unwrap();
            let (mut from, mut to) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || copy(&mut from, &mut to));
            thread::spawn(move || copy(&mut &server, &mut stream));
        }
    });
    ports
}

/// Connects to a guest with this server on Kata's port; returns the ports of the attempts too.
fn connected(service: Service, port: u32) -> (Result<AnyAgent, Failure>, Vec<u32>) {
    let dir = tempfile::tempdir().unwrap();
    let (vsock, kata) = (dir.path().join("vsock"), dir.path().join("kata"));
    serve(&kata, service);
    let ports = serve_hybrid(&vsock, &kata);
    let endpoint: Endpoint = format!("hvsock://{}:{port}", vsock.display())
        .parse()
        .unwrap();
    let agent = connect(&endpoint, &Interrupt::default());
    let ports = ports.lock().unwrap().clone();
    (agent, ports)
}

#[test]
fn connect_without_patchbay_agent_takes_that_of_kata() {
    for (port, attempts) in [(1061, &[961, 1061, 1024][..]), (1024, &[1024])] {
        let (agent, ports) = connected(Service::Kata, port);
        let greeting = agent.unwrap().greeting().unwrap();
        assert_eq!(
            (greeting.kind, &*greeting.version),
            (AgentKind::Kata, "3.19.1")
        );
        assert_eq!(ports, attempts);
    }
}

#[test]
fn connect_to_chosen_port_tries_no_other() {
    for port in [961, 2000] {
        let (agent, ports) = connected(Service::Kata, port);
        assert_eq!(agent.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(ports, [port]);
    }
}

#[test]
fn connect_with_another_server_at_the_port_of_kata_names_the_missing_agent() {
    let (agent, _) = connected(Service::Other, 1061);
    let failure = agent.unwrap_err();
    assert!(failure.line().contains(":961"), "{}", failure.line());
    let (agent, _) = connected(Service::Other, 1024);
    let line = agent.unwrap_err().line();
    assert!(line.contains("no agent of Kata answers"), "{line}");
}

#[test]
fn configure_card_that_appears_after_an_attempt_is_repeated() {
    let (agent, _) = connected(Service::LateCard, 1024);
    let fields = LinkFields {
        name: "eth5".parse().unwrap(),
        mac: LATE_MAC.parse().unwrap(),
        mtu: Mtu::try_from(1500).unwrap(),
        addresses: Vec::new(),
        queues: None,
        arp: Arp::On,
    };
    let spec = LinkSpec::new(fields, "addresses").unwrap();
    let wait = GuestWait {
        limit: Duration::from_secs(10),
        effect: Effect::Changes,
    };
    let path = PciPath::new(vec![PciAddress::from_devfn(8), PciAddress::from_devfn(0)]).unwrap();
    let configured = agent.unwrap().configure(&path, &spec, &[], wait);
    assert_eq!(configured.unwrap().name.to_string(), "eth5");
}

#[test]
fn list_of_hostile_agent_is_checked() {
    let (agent, _) = connected(Service::Kata, 1024);
    let failure = agent
        .unwrap()
        .interfaces(AddressDetail::Listed)
        .unwrap_err();
    assert_eq!(failure.kind(), Kind::Other);
    assert!(
        failure.line().contains("invalid response from the agent"),
        "{}",
        failure.line()
    );
    let reply = wire::Interfaces {
        Interfaces: vec![wire::Interface {
            name: "eth1".to_owned(),
            mtu: u64::MAX,
            hwAddr: "no MAC".to_owned(),
            IPAddresses: ["10.0.0.1", "fe80::1", "x"]
                .map(|address| wire::IPAddress {
                    address: address.to_owned(),
                    mask: "24".to_owned(),
                    ..wire::IPAddress::default()
                })
                .into(),
            ..wire::Interface::default()
        }],
        ..wire::Interfaces::default()
    };
    let listed = super::convert::interfaces(&reply).unwrap();
    assert_eq!((listed[0].mac, listed[0].mtu), (None, u32::MAX));
    let addresses: Vec<_> = listed[0]
        .addresses
        .iter()
        .map(|listed| listed.address.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.1/24"]);
}
