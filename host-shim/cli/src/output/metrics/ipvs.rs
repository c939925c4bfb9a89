//! Metrics of virtual services and their servers.

use std::cmp::Reverse;

use patchbay_host::ops::Scrape;
use patchbay_types::ipvs::{Family as IpFamily, ListedServer, ListedService, ServiceId};

use super::{Family, Labels, count, of_sandbox};

/// Names and texts of the five counters of IPVS, in its order, of services and of servers.
const COUNTERS: [[(&str, &str); 5]; 2] = [
    [
        ("ipvs_service_connections", "Connections to the service."),
        ("ipvs_service_incoming_packets", "Packets to the service."),
        ("ipvs_service_outgoing_packets", "Packets of the service."),
        ("ipvs_service_incoming_bytes", "Bytes to the service."),
        ("ipvs_service_outgoing_bytes", "Bytes of the service."),
    ],
    [
        ("ipvs_server_connections", "Connections to the server."),
        ("ipvs_server_incoming_packets", "Packets to the server."),
        ("ipvs_server_outgoing_packets", "Packets of the server."),
        ("ipvs_server_incoming_bytes", "Bytes to the server."),
        ("ipvs_server_outgoing_bytes", "Bytes of the server."),
    ],
];

/// Chosen services and servers of all sandboxes.
#[derive(Default)]
struct Chosen<'a> {
    services: Vec<(Labels, &'a ListedService)>,
    servers: Vec<(Labels, &'a ListedServer)>,
}

/// Gauge of a server: name, text and value.
type ServerGauge = (&'static str, &'static str, fn(&ListedServer) -> u32);

const SERVER_GAUGES: [ServerGauge; 4] = [
    ("ipvs_server_weight", "Weight of the server.", |listed| {
        listed.server.weight.get()
    }),
    (
        "ipvs_server_active_connections",
        "Active connections to the server.",
        |listed| listed.active,
    ),
    (
        "ipvs_server_inactive_connections",
        "Connections to the server that are ending or idle.",
        |listed| listed.inactive,
    ),
    (
        "ipvs_server_persistent_connections",
        "Persistence templates of the server.",
        |listed| listed.persistent,
    ),
];

/// Returns the metrics; `top` limits services and servers of each sandbox.
pub(super) fn families(scrapes: &[Scrape], top: usize) -> Vec<Family> {
    let mut chosen = Chosen::default();
    for scrape in scrapes {
        chosen.add(scrape, top);
    }
    let mut families = totals(scrapes);
    families.extend(SERVER_GAUGES.map(|(name, help, value)| {
        let servers = chosen.servers.iter();
        let samples = servers.map(|(labels, listed)| (labels.clone(), f64::from(value(listed))));
        Family::gauge(name, help, samples)
    }));
    let [of_services, of_servers] = COUNTERS;
    for (index, (name, help)) in of_services.into_iter().enumerate() {
        let services = chosen.services.iter();
        let samples =
            services.map(|(labels, listed)| (labels.clone(), listed.stats.counters[index]));
        families.push(Family::counter(name, help, samples));
    }
    for (index, (name, help)) in of_servers.into_iter().enumerate() {
        let servers = chosen.servers.iter();
        let samples =
            servers.map(|(labels, listed)| (labels.clone(), listed.stats.counters[index]));
        families.push(Family::counter(name, help, samples));
    }
    families
}

/// Returns the numbers of all services and servers.
fn totals(scrapes: &[Scrape]) -> Vec<Family> {
    let of_each = |value: fn(&Scrape) -> usize| {
        let with_ipvs = scrapes.iter().filter(|scrape| !scrape.services.is_empty());
        with_ipvs.map(move |scrape| (of_sandbox(scrape), count(value(scrape))))
    };
    let servers = |scrape: &Scrape| {
        let services = scrape.services.iter();
        services.map(|service| service.servers.len()).sum()
    };
    vec![
        Family::gauge(
            "ipvs_services",
            "Number of virtual services, also of those left out.",
            of_each(|scrape| scrape.services.len()),
        ),
        Family::gauge(
            "ipvs_servers",
            "Number of real servers, also of those left out.",
            of_each(servers),
        ),
    ]
}

impl<'a> Chosen<'a> {
    /// Adds those of a sandbox with the most connections, by the order of the kernel where they are equal.
    fn add(&mut self, scrape: &'a Scrape, top: usize) {
        let mut services: Vec<&ListedService> = scrape.services.iter().collect();
        services.sort_by_key(|listed| {
            let servers = listed.servers.iter();
            Reverse(servers.map(connections).sum::<u64>())
        });
        let mut servers: Vec<(ServiceId, &ListedServer)> = scrape
            .services
            .iter()
            .flat_map(|listed| {
                listed
                    .servers
                    .iter()
                    .map(|server| (listed.service.id, server))
            })
            .collect();
        servers.sort_by_key(|(_, listed)| Reverse(connections(listed)));
        let of_service = |id| [of_sandbox(scrape), vec![("service", label(id))]].concat();
        for listed in services.into_iter().take(top) {
            self.services.push((of_service(listed.service.id), listed));
        }
        for (service, listed) in servers.into_iter().take(top) {
            let id = listed.server.id;
            let server = std::net::SocketAddr::new(id.address, id.port).to_string();
            let labels = [of_service(service), vec![("server", server)]].concat();
            self.servers.push((labels, listed));
        }
    }
}

fn connections(listed: &ListedServer) -> u64 {
    u64::from(listed.active) + u64::from(listed.inactive)
}

/// Formats a service: `tcp/10.0.0.1:80`, `fwmark/1` or `fwmark6/1`.
fn label(id: ServiceId) -> String {
    match id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => {
            format!(
                "{}/{}",
                protocol.name(),
                std::net::SocketAddr::new(address, port)
            )
        }
        ServiceId::Mark {
            mark,
            family: IpFamily::V4,
        } => format!("fwmark/{mark}"),
        ServiceId::Mark {
            mark,
            family: IpFamily::V6,
        } => format!("fwmark6/{mark}"),
    }
}
