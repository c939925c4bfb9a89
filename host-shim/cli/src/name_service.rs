//! Names of hosts and ports from this machine's files. A network lookup could hang.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use patchbay_grammar::Resolver;
use patchbay_grammar::ipvsadm::{Names, numeric};
use patchbay_types::ipvs::Protocol;

/// Longer files are cut. Debian's `/etc/services` has 13 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Contents of `/etc/hosts`, `/etc/services` and `/etc/xtables/connlabel.conf`.
#[derive(Debug, Default)]
pub(crate) struct HostsAndServices {
    hosts: Vec<(IpAddr, Vec<String>)>,
    services: Vec<(u16, String, Vec<String>)>,
    labels: Vec<(u8, String)>,
}

impl HostsAndServices {
    /// Reads the files; a missing file has no names.
    pub(crate) fn read() -> Self {
        Self::parse(
            &text(Path::new("/etc/hosts")),
            &text(Path::new("/etc/services")),
            &text(Path::new("/etc/xtables/connlabel.conf")),
        )
    }

    pub(crate) fn parse(hosts: &str, services: &str, labels: &str) -> Self {
        let words = |line: &str| -> Vec<String> {
            let line = line.split('#').next().unwrap_or_default();
            line.split_whitespace().map(str::to_owned).collect()
        };
        let host = |line: &str| {
            let mut words = words(line).into_iter();
            Some((words.next()?.parse().ok()?, words.collect()))
        };
        let service = |line: &str| {
            let mut words = words(line).into_iter();
            let name = words.next()?;
            let endpoint = words.next()?;
            let (port, protocol) = endpoint.split_once('/')?;
            let names = [name].into_iter().chain(words).collect();
            Some((port.parse().ok()?, protocol.to_owned(), names))
        };
        let label = |line: &str| {
            let mut words = words(line).into_iter();
            let bit = words.next()?.parse().ok()?;
            Some((bit, words.next()?))
        };
        Self {
            labels: labels.lines().filter_map(label).collect(),
            hosts: hosts.lines().filter_map(host).collect(),
            services: services.lines().filter_map(service).collect(),
        }
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
        let first = |names: &[String]| names.first().cloned();
        let host = self.hosts.iter().find(|(found, _)| *found == ip);
        let host = host.and_then(|(_, names)| first(names));
        let service = self.services.iter().find(|(number, name, _)| {
            *number == port && protocol.is_some_and(|protocol| name == protocol.name())
        });
        let service = service.and_then(|(_, _, names)| first(names));
        let service = service.unwrap_or_else(|| port.to_string());
        let host = host.unwrap_or_else(|| ip.to_string());
        match ip {
            IpAddr::V4(_) => format!("{host}:{service}"),
            IpAddr::V6(_) => format!("[{host}]:{service}"),
        }
    }
}

impl Resolver for HostsAndServices {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        let is_name = |known: &String| known.eq_ignore_ascii_case(name);
        self.hosts.iter().find_map(|(ip, names)| match ip {
            IpAddr::V4(v4) if names.iter().any(is_name) => Some(*v4),
            _ => None,
        })
    }

    fn service(&self, name: &str, protocol: &str) -> Option<u16> {
        let found = self
            .services
            .iter()
            .find(|(_, known, names)| known == protocol && names.iter().any(|known| known == name));
        found.map(|(port, ..)| *port)
    }

    fn label(&self, name: &str) -> Option<u8> {
        let found = self.labels.iter().find(|(_, known)| known == name);
        found.map(|(bit, _)| *bit)
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
