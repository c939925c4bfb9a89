//! Rules as `ipvsadm -S` prints them.

use std::net::IpAddr;

use patchbay_types::ipvs::{
    Checksum, Endpoint, Family, Forward, Netmask, Protocol, SchedFlags, Scheduling, Server,
    Service, ServiceId, Tunnel,
};

/// Whether what ipvsadm forgets to save is saved too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveFormat {
    /// ipvsadm's bytes: without thresholds.
    Ipvsadm,
    /// Everything.
    Whole,
}

/// How an address and port are written; the protocol is that of the service.
pub type EndpointText<'a> = &'a dyn Fn(Protocol, IpAddr, u16) -> String;

/// An address and port by numbers.
#[must_use]
pub fn numeric(_: Protocol, address: IpAddr, port: u16) -> String {
    Endpoint(address, port).to_string()
}

/// The words that name a service.
fn service_words(id: ServiceId, endpoint: EndpointText<'_>) -> String {
    match id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => {
            format!(
                "{} {}",
                protocol.option(),
                endpoint(protocol, address, port)
            )
        }
        ServiceId::Mark { .. } => id.to_string(),
    }
}

/// The mask as text, where it is not the whole address.
#[must_use]
pub fn netmask(mask: Netmask) -> Option<String> {
    match mask {
        _ if mask == Netmask::whole(Family::V4) || mask == Netmask::whole(Family::V6) => None,
        Netmask::V4(bits) => Some(std::net::Ipv4Addr::from(bits).to_string()),
        Netmask::V6(bits) => Some(bits.to_string()),
    }
}

/// Names of the flags that are set, with commas.
#[must_use]
pub fn flag_names(service: &Service) -> String {
    let names = SchedFlags::names(&service.scheduler).iter().enumerate();
    let set = names.filter(|(bit, _)| service.flags.bits() >> bit & 1 == 1);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

/// The line that adds a service.
#[must_use]
pub fn service_line(service: &Service, endpoint: EndpointText<'_>) -> String {
    let mut words = vec![
        format!("-A {}", service_words(service.id, endpoint)),
        format!("-s {}", service.scheduler),
    ];
    if let Some(persistence) = service.persistence {
        words.push(format!("-p {}", persistence.get()));
        words.extend(netmask(service.netmask).map(|mask| format!("-M {mask}")));
    }
    words.extend(
        service
            .engine
            .as_ref()
            .map(|engine| format!("--pe {engine}")),
    );
    if service.scheduling == Scheduling::Packets {
        words.push("-o".to_owned());
    }
    if service.flags.bits() != 0 {
        // Alone, a third flag of sh or mh has no name; ipvsadm leaves the blank.
        words.push(format!("-b {}", flag_names(service)));
    }
    words.join(" ")
}

/// The line that adds a server to a service.
#[must_use]
pub fn server_line(
    service: ServiceId,
    server: &Server,
    endpoint: EndpointText<'_>,
    completeness: SaveFormat,
) -> String {
    let protocol = match service {
        ServiceId::Address { protocol, .. } => protocol,
        ServiceId::Mark { .. } => Protocol::Tcp,
    };
    let forward = match server.forward {
        Forward::Masquerade => "-m",
        Forward::Tunnel(_) => "-i",
        Forward::Route | Forward::Local => "-g",
    };
    let mut words = vec![
        format!("-a {}", service_words(service, endpoint)),
        format!(
            "-r {}",
            endpoint(protocol, server.id.address, server.id.port)
        ),
        forward.to_owned(),
        format!("-w {}", server.weight.get()),
    ];
    if let Forward::Tunnel(tunnel) = server.forward {
        words.push(tunnel_words(tunnel));
    }
    if completeness == SaveFormat::Whole {
        let thresholds = [("-x", server.upper), ("-y", server.lower)];
        let set = thresholds
            .iter()
            .filter(|(_, threshold)| threshold.get() != 0);
        words.extend(set.map(|(option, threshold)| format!("{option} {}", threshold.get())));
    }
    words.join(" ")
}

fn tunnel_words(tunnel: Tunnel) -> String {
    let checksum_word = |checksum| match checksum {
        Checksum::No => "--tun-nocsum",
        Checksum::Full => "--tun-csum",
        Checksum::Remote => "--tun-remcsum",
    };
    match tunnel {
        Tunnel::Ipip => "--tun-type ipip".to_owned(),
        Tunnel::Gue { port, checksum } => {
            let word = checksum_word(checksum);
            format!("--tun-type gue --tun-port {port} {word}")
        }
        Tunnel::Gre { checksum } => format!("--tun-type gre {}", checksum_word(checksum)),
    }
}
