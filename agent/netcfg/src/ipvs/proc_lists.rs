//! Servers of all services from `/proc`, which has them in one file.
//!
//! A netlink dump per IPv6 service takes the kernel five times as long as its rows of the file. The
//! rows lack thresholds, persistence templates, attributes of tunnels, and the family of a mark.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};

use patchbay_types::ipvs::{
    Forward, ListedServer, NonNegativeInt, Protocol, Server, ServerId, ServiceId, Stats,
};

use super::proc::{HEADER_LINES, MAX_ROW_BYTES, RULES, address};

/// Beginning of a row of a server.
const SERVER: &str = "  -> ";

/// Cursor over the servers of all services, in the order in which netlink lists the services.
///
/// The kernel writes a service and its servers at once. If services come or go between two reads, it
/// leaves some out or repeats some: then the next row isn't that of the expected service.
#[derive(Debug)]
pub struct ProcLists<R = BufReader<File>> {
    table: R,
    /// The row of the next service.
    row: String,
    servers: Vec<ListedServer>,
}

impl ProcLists {
    /// Opens the file and starts before the first service.
    ///
    /// # Errors
    /// Fails if the kernel has no IPVS.
    pub fn open() -> io::Result<Self> {
        Self::new(BufReader::new(File::open(RULES)?))
    }
}

impl<R: BufRead> ProcLists<R> {
    fn new(mut table: R) -> io::Result<Self> {
        for _ in 0..HEADER_LINES {
            table.skip_until(b'\n')?;
        }
        let mut lists = Self {
            table,
            row: String::new(),
            servers: Vec::new(),
        };
        lists.advance()?;
        Ok(lists)
    }

    /// Returns the servers of the next service if it is service `id` and the rows have all that
    /// identifies them. `None` also if the table has changed since the services were listed.
    pub fn of(&mut self, id: ServiceId) -> Option<&[ListedServer]> {
        if service(&self.row) != Some(id) {
            return None;
        }
        self.servers.clear();
        let mut is_complete = true;
        loop {
            self.advance().ok()?;
            let Some(row) = self.row.strip_prefix(SERVER) else {
                break;
            };
            match server(row) {
                Some(server) => self.servers.push(server),
                None => is_complete = false,
            }
        }
        is_complete.then_some(&self.servers)
    }

    /// Reads the next row; an empty one at the end.
    fn advance(&mut self) -> io::Result<()> {
        self.row.clear();
        let table = &mut self.table;
        let length = table.take(MAX_ROW_BYTES).read_line(&mut self.row)?;
        if length > 0 && !self.row.ends_with('\n') {
            self.row.clear();
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

/// Parses `TCP  [2001:...:0001]:0050 rr persistent 25000 FFFF0000`; `None` for a mark.
fn service(row: &str) -> Option<ServiceId> {
    let mut words = row.split_ascii_whitespace();
    let protocol = match words.next()? {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    let ServerId { address, port } = endpoint(words.next()?)?;
    Some(ServiceId::Address {
        protocol,
        address,
        port,
    })
}

/// Parses `0A00000C:1F90      Masq    70000  0          0`; `None` for a tunnel.
fn server(row: &str) -> Option<ListedServer> {
    let mut words = row.split_ascii_whitespace();
    let id = endpoint(words.next()?)?;
    let forward = match words.next()? {
        "Masq" => Forward::Masquerade,
        "Local" => Forward::Local,
        "Route" => Forward::Route,
        _ => return None,
    };
    let mut number = || words.next()?.parse::<u32>().ok();
    let mut server = Server::new(id, forward);
    server.weight = NonNegativeInt::try_from(number()?).ok()?;
    Some(ListedServer {
        server,
        active: number()?,
        inactive: number()?,
        persistent: 0,
        stats: Stats::default(),
    })
}

/// Parses address and port in hexadecimal digits.
fn endpoint(text: &str) -> Option<ServerId> {
    let (ip, port) = text.rsplit_once(':')?;
    Some(ServerId {
        address: address(ip.trim_matches(['[', ']']))?,
        port: u16::from_str_radix(port, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded on Linux 6.1.
    const TABLE: &str = "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A000001:0050 rr persistent 25000 FFFF0000
  -> 0A00000C:1F90      Masq    70000  2          31        
  -> 0A00000D:0050      Route   1      0          0         
UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:13C4 sh ops persistent 75000 00000040
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0035      Local   3      0          0         
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 rr 
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0050      Masq    1      0          0         
  -> 0A000004:0050      Tunnel  1      0          0         
SCTP [2001:0db8:0000:0000:0000:0000:0000:0001]:0051 rr 
FWM  0000000C wrr 
";

    fn lists(table: &str) -> ProcLists<&[u8]> {
        ProcLists::new(table.as_bytes()).unwrap()
    }

    fn id(protocol: Protocol, address: &str, port: u16) -> ServiceId {
        ServiceId::Address {
            protocol,
            address: address.parse().unwrap(),
            port,
        }
    }

    /// Returns the servers as text; `None` where netlink has to list them.
    fn servers(lists: &mut ProcLists<&[u8]>, id: ServiceId) -> Option<Vec<String>> {
        let text = |listed: &ListedServer| {
            let Server {
                id,
                forward,
                weight,
                ..
            } = listed.server;
            let (weight, active, inactive) = (weight.get(), listed.active, listed.inactive);
            format!("{id} {forward:?} {weight} {active} {inactive}")
        };
        Some(lists.of(id)?.iter().map(text).collect())
    }

    #[test]
    fn read_table_of_both_families() {
        let mut lists = lists(TABLE);
        let mut next = |id| servers(&mut lists, id);
        let v4 = next(id(Protocol::Tcp, "10.0.0.1", 80)).unwrap();
        let expected = [
            "10.0.0.12:8080 Masquerade 70000 2 31",
            "10.0.0.13:80 Route 1 0 0",
        ];
        assert_eq!(v4, expected);
        let v6 = next(id(Protocol::Udp, "2001:db8::1", 5060)).unwrap();
        assert_eq!(v6, ["[2001:db8::2]:53 Local 3 0 0"]);
        assert_eq!(next(id(Protocol::Tcp, "2001:db8::1", 80)), None, "a tunnel");
        let last = next(id(Protocol::Sctp, "2001:db8::1", 81)).unwrap();
        assert!(last.is_empty());
        assert_eq!(next(id(Protocol::Sctp, "2001:db8::1", 81)), None, "a mark");
    }

    #[test]
    fn read_service_that_is_not_next_is_none() {
        let mut lists = lists(TABLE);
        let later = id(Protocol::Udp, "2001:db8::1", 5060);
        assert_eq!(servers(&mut lists, later), None);
        let first = id(Protocol::Tcp, "10.0.0.1", 80);
        assert!(servers(&mut lists, first).is_some());
        assert_eq!(servers(&mut lists, first), None, "already read");
    }

    #[test]
    fn read_cut_row_is_none() {
        // Weight 70000 reads as 700.
        let cut = &TABLE[..TABLE.find("00  2").unwrap()];
        let service = id(Protocol::Tcp, "10.0.0.1", 80);
        assert_eq!(servers(&mut lists(cut), service), None);
        let padding = " ".repeat(5000);
        let long = TABLE.replacen("Masq", &format!("Masq{padding}"), 1);
        assert_eq!(servers(&mut lists(&long), service), None);
    }

    proptest::proptest! {
        #[test]
        fn read_of_any_table_terminates(table: String, rows: Vec<String>) {
            let _ = lists(&table);
            for row in rows {
                let _ = (service(&row), server(&row));
            }
        }
    }
}
