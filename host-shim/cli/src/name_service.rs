//! Names of hosts and ports from this machine's files. A network lookup could hang.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use patchbay_grammar::Resolver;
use patchbay_grammar::ipvsadm::{Names, numeric};
use patchbay_types::ipvs::Protocol;

/// Longer files are cut. Debian's `/etc/services` has 13 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Names in `/etc/hosts`, `/etc/services` and `/etc/xtables/connlabel.conf`, which are read when the first name
/// is looked up: most commands have only numbers.
#[derive(Debug)]
pub(crate) struct HostsAndServices(LazyCell<Index, Box<dyn FnOnce() -> Index>>);

/// Contents of the files, indexed: a table has tens of thousands of rows. Of entries with the same key the
/// first counts.
#[derive(Debug, Default)]
struct Index {
    host_names: HashMap<IpAddr, String>,
    /// By name in lower case.
    hosts: HashMap<String, Ipv4Addr>,
    /// By protocol.
    services: HashMap<String, Services>,
    labels: HashMap<String, u8>,
}

/// Services of one protocol.
#[derive(Debug, Default)]
struct Services {
    names: HashMap<u16, String>,
    ports: HashMap<String, u16>,
}

impl Index {
    fn parse(hosts: &str, services: &str, labels: &str) -> Self {
        let mut parsed = Self::default();
        for line in hosts.lines() {
            parsed.add_host(line);
        }
        for line in services.lines() {
            parsed.add_service(line);
        }
        for line in labels.lines() {
            parsed.add_label(line);
        }
        parsed
    }

    fn add_host(&mut self, line: &str) -> Option<()> {
        let mut words = words(line);
        let ip: IpAddr = words.next()?.parse().ok()?;
        for (position, name) in words.enumerate() {
            if position == 0 {
                self.host_names.entry(ip).or_insert_with(|| name.to_owned());
            }
            if let IpAddr::V4(v4) = ip {
                self.hosts.entry(name.to_ascii_lowercase()).or_insert(v4);
            }
        }
        Some(())
    }

    fn add_service(&mut self, line: &str) -> Option<()> {
        let mut words = words(line);
        let (name, endpoint) = (words.next()?, words.next()?);
        let (port, protocol) = endpoint.split_once('/')?;
        let port = port.parse().ok()?;
        let services = self.services.entry(protocol.to_owned()).or_default();
        services
            .names
            .entry(port)
            .or_insert_with(|| name.to_owned());
        for name in [name].into_iter().chain(words) {
            services.ports.entry(name.to_owned()).or_insert(port);
        }
        Some(())
    }

    fn add_label(&mut self, line: &str) -> Option<()> {
        let mut words = words(line);
        let bit = words.next()?.parse().ok()?;
        self.labels.entry(words.next()?.to_owned()).or_insert(bit);
        Some(())
    }
}

impl HostsAndServices {
    /// Uses the files; a missing file has no names.
    pub(crate) fn of_machine() -> Self {
        let read = || {
            Index::parse(
                &text(Path::new("/etc/hosts")),
                &text(Path::new("/etc/services")),
                &text(Path::new("/etc/xtables/connlabel.conf")),
            )
        };
        Self(LazyCell::new(Box::new(read)))
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn parse(hosts: &str, services: &str, labels: &str) -> Self {
        let index = Index::parse(hosts, services, labels);
        Self(LazyCell::new(Box::new(|| index)))
    }

    /// Formats an address and port. Without a protocol the port has no name.
    pub(crate) fn show(
        &self,
        names: Names,
        protocol: Option<Protocol>,
        ip: IpAddr,
        port: u16,
    ) -> String {
        if names == Names::Numeric {
            return numeric(protocol, ip, port);
        }
        let services = protocol.and_then(|protocol| self.0.services.get(protocol.name()));
        let service = services.and_then(|services| services.names.get(&port));
        let service = service.map_or_else(|| port.to_string(), Clone::clone);
        let host = self.0.host_names.get(&ip);
        let host = host.map_or_else(|| ip.to_string(), Clone::clone);
        match ip {
            IpAddr::V4(_) => format!("{host}:{service}"),
            IpAddr::V6(_) => format!("[{host}]:{service}"),
        }
    }
}

/// Splits a line into words, without its comment.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let line = line.split('#').next().unwrap_or_default();
    line.split_whitespace()
}

impl Resolver for HostsAndServices {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        self.0.hosts.get(&name.to_ascii_lowercase()).copied()
    }

    fn service(&self, name: &str, protocol: &str) -> Option<u16> {
        self.0.services.get(protocol)?.ports.get(name).copied()
    }

    fn label(&self, name: &str) -> Option<u8> {
        self.0.labels.get(name).copied()
    }
}

fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    // Without the file, numbers are printed.
    let _ = File::open(path).map(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> HostsAndServices {
        HostsAndServices::parse(
            "127.0.0.1 localhost\n# 10.0.0.9 none\n10.9.8.7\tTestHost alias # x\n2001:db8::1 six\n",
            "http 80/tcp www # web\ndomain 53/udp\nbad\n",
            "0 eth0-in\n# 9 none\n127\tlast # x\n128 wide\n300 no\n",
        )
    }

    #[test]
    fn host_and_service_resolve_ipv4_only() {
        let files = files();
        assert_eq!(files.host("testhost"), Some(Ipv4Addr::new(10, 9, 8, 7)));
        assert_eq!(files.host("alias"), Some(Ipv4Addr::new(10, 9, 8, 7)));
        assert_eq!(files.host("six"), None);
        assert_eq!(files.host("none"), None);
        assert_eq!(files.service("www", "tcp"), Some(80));
        assert_eq!(files.service("http", "udp"), None);
    }

    #[test]
    fn label_resolves_to_its_bit() {
        let files = files();
        let bits = ["eth0-in", "last", "wide", "no", "none"].map(|name| files.label(name));
        assert_eq!(bits, [Some(0), Some(127), Some(128), None, None]);
    }

    #[test]
    fn show_without_name_prints_number() {
        let (files, tcp) = (files(), Some(Protocol::Tcp));
        let show = |ip: &str, port| files.show(Names::Resolved, tcp, ip.parse().unwrap(), port);
        assert_eq!(show("10.9.8.7", 80), "TestHost:http");
        assert_eq!(show("10.9.8.8", 53), "10.9.8.8:53");
        assert_eq!(show("2001:db8::1", 80), "[six]:http");
        let numeric = files.show(Names::Numeric, tcp, "10.9.8.7".parse().unwrap(), 80);
        assert_eq!(numeric, "10.9.8.7:80");
        let of_mark = files.show(Names::Resolved, None, "10.9.8.7".parse().unwrap(), 80);
        assert_eq!(of_mark, "TestHost:80");
    }
}
