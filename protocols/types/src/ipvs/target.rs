//! Servers, and connections of the IPVS table, that a request is about.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;

use super::{AddrPort, Connection, Peer, Protocol, ServerId, ServiceId};
use crate::InvalidValue;

/// Address and port of servers or services; without a port, every port of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: Option<NonZeroU16>,
}

impl Target {
    fn has(self, address: IpAddr, port: u16) -> bool {
        let at_port = self.port.is_none_or(|wanted| wanted.get() == port);
        self.address == address && at_port
    }

    fn has_peer(self, peer: Peer) -> bool {
        self.has(peer.address, peer.port)
    }
}

impl fmt::Display for Target {
    /// Prints a form that the command line reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => AddrPort(self.address, port.get()).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

impl FromStr for Target {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let whole = text.parse::<SocketAddr>();
        let whole = whole.map(|socket| (socket.ip(), NonZeroU16::new(socket.port())));
        let (address, port) = match (whole, text.parse()) {
            (Ok(whole), _) => whole,
            (Err(_), Ok(address)) => (address, None),
            _ => {
                let rule = "it must be ADDRESS or ADDRESS:PORT, [ADDRESS]:PORT for IPv6";
                return Err(InvalidValue::new(text, rule));
            }
        };
        Ok(Self { address, port })
    }
}

/// Services that a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceFilter {
    /// Services of an address.
    Address(Option<Protocol>, Target),
    /// Services of a firewall mark.
    Mark(NonZeroU32),
}

impl ServiceFilter {
    fn has(self, id: ServiceId) -> bool {
        match (self, id) {
            (
                Self::Address(wanted, target),
                ServiceId::Address {
                    protocol,
                    address,
                    port,
                },
            ) => {
                // A service of port 0 has every port.
                let at_port = target.has(address, port) || port == 0 && target.address == address;
                at_port && wanted.is_none_or(|wanted| wanted == protocol)
            }
            (Self::Mark(wanted), ServiceId::Mark { mark, .. }) => wanted == mark,
            _ => false,
        }
    }
}

impl FromStr for ServiceFilter {
    type Err = InvalidValue;

    /// Parses a [`Target`], for which a protocol can be given as `tcp:` or as the option of ipvsadm, or a
    /// firewall mark.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let rule = "it must be ADDRESS:PORT, tcp:ADDRESS:PORT (or udp, sctp), '-t ADDRESS:PORT' (or \
                    another option of ipvsadm) or fwmark:MARK";
        let invalid = || InvalidValue::new(text, rule);
        let after = |prefix: &str| text.strip_prefix(prefix).map(str::trim_start);
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let name = format!("{}:", protocol.name());
            let option = format!("{} ", protocol.option());
            if let Some(target) = after(&name).or_else(|| after(&option)) {
                let target = target.parse().map_err(|_| invalid())?;
                return Ok(Self::Address(Some(protocol), target));
            }
        }
        if let Some(mark) = after("fwmark:").or_else(|| after("-f ")) {
            return mark.parse().map(Self::Mark).map_err(|_| invalid());
        }
        let target = text.parse().map_err(|_| invalid())?;
        Ok(Self::Address(None, target))
    }
}

/// Servers that a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerFilter {
    /// Address and port of the servers.
    pub server: Target,
    /// Services that have them; `None`: any.
    pub service: Option<ServiceFilter>,
}

impl ServerFilter {
    /// Returns whether the filter takes the server of a service.
    #[must_use]
    pub fn has(&self, of: ServiceId, server: ServerId) -> bool {
        // A server of port 0 has every port.
        let here = self.server.has(server.address, server.port)
            || server.port == 0 && self.server.address == server.address;
        here && self.service.is_none_or(|service| service.has(of))
    }

    /// Returns whether the filter takes a connection. Its row doesn't contain a firewall mark: `service`
    /// is the service of an address to which it belongs.
    #[must_use]
    pub fn has_connection(&self, row: &Connection, service: Option<ServiceId>) -> bool {
        let of_service = match self.service {
            None => true,
            Some(ServiceFilter::Mark(_)) => service.is_none(),
            Some(ServiceFilter::Address(protocol, target)) => {
                let same = |protocol: Protocol| row.protocol.eq_ignore_ascii_case(protocol.name());
                target.has_peer(row.virtual_end) && protocol.is_none_or(same)
            }
        };
        self.server.has_peer(row.server) && of_service
    }
}

/// Number of connections of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionCount {
    /// Connections that were found.
    pub connections: u32,
    /// `true` if the table is too large to be read to its end.
    pub partial: bool,
    /// `true` if connections end with their server (`net.ipv4.vs.expire_nodest_conn`).
    pub ending: bool,
}

/// Connections of servers that are drained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrainProgress {
    /// Active connections.
    pub active: u32,
    /// Connections that are ending or idle.
    pub inactive: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_of_either_family_prints_its_text() {
        for text in ["10.0.0.1", "10.0.0.1:80", "fd00::1", "[fd00::1]:80"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.1:0".parse::<Target>().unwrap().port, None);
        for text in [
            "",
            "host",
            "10.0.0.1:",
            "10.0.0.1:65536",
            "10.1",
            "fd00::1:x",
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains("ADDRESS:PORT"), "{error}");
        }
    }

    #[test]
    fn service_filter_reads_every_form() {
        let target: Target = "10.0.0.1:80".parse().unwrap();
        for (text, filter) in [
            ("10.0.0.1:80", ServiceFilter::Address(None, target)),
            (
                "tcp:10.0.0.1:80",
                ServiceFilter::Address(Some(Protocol::Tcp), target),
            ),
            (
                "-u 10.0.0.1:80",
                ServiceFilter::Address(Some(Protocol::Udp), target),
            ),
            (
                "--sctp-service 10.0.0.1:80",
                ServiceFilter::Address(Some(Protocol::Sctp), target),
            ),
            ("fwmark:7", ServiceFilter::Mark(NonZeroU32::new(7).unwrap())),
            ("-f 7", ServiceFilter::Mark(NonZeroU32::new(7).unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(filter), "{text}");
        }
        for text in ["", "tcp", "tcp:x", "icmp:10.0.0.1", "fwmark:0", "-f -1"] {
            let error = text.parse::<ServiceFilter>().unwrap_err().to_string();
            assert!(error.contains("fwmark:MARK"), "{error}");
        }
    }

    #[test]
    fn server_filter_distinguishes_services() {
        let id = |port| ServiceId::Address {
            protocol: Protocol::Tcp,
            address: "10.0.0.1".parse().unwrap(),
            port,
        };
        let server = |port| ServerId {
            address: "10.2.0.1".parse().unwrap(),
            port,
        };
        let filter = |server: &str, service: &str| ServerFilter {
            server: server.parse().unwrap(),
            service: (!service.is_empty()).then(|| service.parse().unwrap()),
        };
        for (wanted, service, takes) in [
            ("10.2.0.1", "", true),
            ("10.2.0.1:8080", "", true),
            ("10.2.0.1:8081", "", false),
            ("10.2.0.2", "", false),
            ("10.2.0.1", "10.0.0.1:80", true),
            ("10.2.0.1", "tcp:10.0.0.1", true),
            ("10.2.0.1", "udp:10.0.0.1:80", false),
            ("10.2.0.1", "10.0.0.1:81", false),
            ("10.2.0.1", "fwmark:1", false),
        ] {
            let filter = filter(wanted, service);
            assert_eq!(
                filter.has(id(80), server(8080)),
                takes,
                "{wanted} {service}"
            );
        }
        // Port 0 is every port, on both sides.
        assert!(filter("10.2.0.1:8081", "10.0.0.1:81").has(id(0), server(0)));
    }
}
