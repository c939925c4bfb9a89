//! Services and servers: a row costs the kernel a tenth of what a netlink answer does.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;

use patchbay_protocols::ipvs::{
    Count31, Forward, ListedServer, Protocol, Server, ServerId, ServiceId, Stats,
};

/// Of the calling thread's network namespace.
const RULES: &str = "/proc/thread-self/net/ip_vs";
/// Lines above the services.
const HEADER_LINES: usize = 3;
/// Longest row that is believed, in bytes; the longest there is has about 160.
const MAX_ROW: u64 = 1024;
/// What stands before a server.
const ARROW: &[u8] = b"  -> ";

/// Number of services and servers.
pub fn count_rules() -> io::Result<usize> {
    let mut rows = Rows::open(RULES)?;
    let mut count = 0usize;
    while rows.next()? {
        count += 1;
    }
    Ok(count)
}

/// The servers of every service, in the order in which netlink lists services too: read beside such
/// a list they need no lookup.
#[derive(Debug)]
pub struct ProcServers {
    rows: Rows<File>,
    servers: Vec<ListedServer>,
}

impl ProcServers {
    /// Begins with the first service.
    pub fn open() -> io::Result<Self> {
        let mut rows = Rows::open(RULES)?;
        rows.next()?;
        Ok(Self {
            rows,
            servers: Vec::new(),
        })
    }

    /// The servers of the next service, if it is this one and `/proc` tells all that is to be told.
    /// It does not of tunnels, nor whether a mark is of IPv4 or IPv6; and after a change of the
    /// table meanwhile the next one is another.
    pub fn of(&mut self, id: ServiceId) -> io::Result<Option<&[ListedServer]>> {
        let marked = matches!(id, ServiceId::Mark { .. });
        if !marked && service(&self.rows.row) != Some(id) {
            return Ok(None);
        }
        self.servers.clear();
        let mut whole = !marked;
        while self.rows.next()? && self.rows.row.starts_with(ARROW) {
            match server(&self.rows.row) {
                Some(listed) => self.servers.push(listed),
                None => whole = false,
            }
        }
        Ok(whole.then_some(&self.servers))
    }
}

/// Rows behind the header, one at a time.
#[derive(Debug)]
struct Rows<R> {
    reader: BufReader<R>,
    row: Vec<u8>,
}

impl Rows<File> {
    fn open(path: &str) -> io::Result<Self> {
        Self::behind_header(File::open(path)?)
    }
}

impl<R: Read> Rows<R> {
    fn behind_header(source: R) -> io::Result<Self> {
        let mut rows = Self {
            reader: BufReader::new(source),
            row: Vec::new(),
        };
        for _ in 0..HEADER_LINES {
            rows.next()?;
        }
        Ok(rows)
    }

    /// Whether there is another.
    fn next(&mut self) -> io::Result<bool> {
        self.row.clear();
        let mut bounded = (&mut self.reader).take(MAX_ROW);
        Ok(bounded.read_until(b'\n', &mut self.row)? > 0)
    }
}

/// `TCP  0A000001:0050 rr persistent 25000 FFFFFFFF` or `UDP  [2001:0db8:...]:0035 wlc`
pub(crate) fn service(row: &[u8]) -> Option<ServiceId> {
    let (name, rest) = row.split_at_checked(5)?;
    let protocol = match name {
        b"TCP  " => Protocol::Tcp,
        b"UDP  " => Protocol::Udp,
        b"SCTP " => Protocol::Sctp,
        _ => return None,
    };
    let ((address, port), _) = endpoint(rest)?;
    Some(ServiceId::Address {
        protocol,
        address,
        port,
    })
}

/// `  -> 0A000002:1F90      Masq    1      0          0         `
pub(crate) fn server(row: &[u8]) -> Option<ListedServer> {
    let ((address, port), rest) = endpoint(row.strip_prefix(ARROW)?)?;
    let mut words = rest
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let forward = match words.next()? {
        b"Masq" => Forward::Masquerade,
        b"Local" => Forward::Local,
        b"Route" => Forward::Route,
        _ => return None,
    };
    let mut number = || decimal(words.next()?);
    let weight = Count31::try_from(number()?).ok()?;
    Some(ListedServer {
        server: Server {
            id: ServerId { address, port },
            forward,
            weight,
            upper: Count31::default(),
            lower: Count31::default(),
        },
        active: number()?,
        inactive: number()?,
        persistent: 0,
        stats: Stats::default(),
    })
}

type End = (IpAddr, u16);

/// An address and port, and what follows.
fn endpoint(text: &[u8]) -> Option<(End, &[u8])> {
    let (address, rest) = match text.strip_prefix(b"[") {
        None => {
            let (digits, rest) = text.split_at_checked(8)?;
            let bits = u32::try_from(hex(digits)?).ok()?;
            (IpAddr::from(bits.to_be_bytes()), rest)
        }
        Some(text) => v6(text)?,
    };
    let (port, rest) = rest.strip_prefix(b":")?.split_at_checked(4)?;
    let port = u16::try_from(hex(port)?).ok()?;
    Some(((address, port), rest))
}

/// Eight groups of four digits and the closing bracket, which the kernel never shortens.
fn v6(text: &[u8]) -> Option<(IpAddr, &[u8])> {
    let end = text.iter().position(|byte| *byte == b']')?;
    let address = std::str::from_utf8(&text[..end]).ok()?;
    let address = address.parse::<std::net::Ipv6Addr>().ok()?;
    Some((address.into(), &text[end + 1..]))
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number: u64, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(number << 4 | u64::from(digit))
    })
}

fn decimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux 6.1 printed.
    const TABLE: &str = "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A000001:0050 rr persistent 25000 FFFF0000
  -> 0A00000C:1F90      Masq    70000  0          0         
  -> 0A000002:0050      Route   7      2          31        
UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:13C4 sh persistent 75000 00000040
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0035      Masq    3      0          0         
TCP  09FF0001:01BB wlc
  -> 0A000003:01BB      Tunnel  1      0          0         
SCTP 0A000001:0B59 mh
FWM  0000000C wrr
  -> 0A000008:0000      Route   4      0          0         
";

    fn id(protocol: Protocol, address: &str, port: u16) -> ServiceId {
        ServiceId::Address {
            protocol,
            address: address.parse().unwrap(),
            port,
        }
    }

    #[test]
    fn rows_of_every_kind_are_read_or_left_to_netlink() {
        let rows: Vec<&[u8]> = TABLE.as_bytes().split_inclusive(|b| *b == b'\n').collect();
        assert_eq!(service(rows[3]), Some(id(Protocol::Tcp, "10.0.0.1", 80)));
        let first = server(rows[4]).unwrap();
        assert_eq!(first.server.id.to_string(), "10.0.0.12:8080");
        assert_eq!(first.server.weight.get(), 70000);
        let second = server(rows[5]).unwrap();
        assert_eq!((second.active, second.inactive), (2, 31));
        assert_eq!(second.server.forward, Forward::Route);
        assert_eq!(
            service(rows[6]),
            Some(id(Protocol::Udp, "2001:db8::1", 5060))
        );
        let v6 = server(rows[7]).unwrap();
        assert_eq!(v6.server.id.to_string(), "[2001:db8::2]:53");
        assert_eq!(server(rows[9]), None, "a tunnel's details are not there");
        assert_eq!(
            service(rows[10]),
            Some(id(Protocol::Sctp, "10.0.0.1", 2905))
        );
        assert_eq!(service(rows[11]), None, "a mark's family is not there");
    }

    #[test]
    fn the_header_is_passed_over_and_rows_counted() {
        let mut rows = Rows::behind_header(TABLE.as_bytes()).unwrap();
        let mut count = 0;
        while rows.next().unwrap() {
            count += 1;
        }
        assert_eq!(count, 10);
    }

    proptest::proptest! {
        #[test]
        fn any_row_ends(row: Vec<u8>) {
            let _ = (service(&row), server(&row));
        }
    }
}
