//! Servers of all services from `/proc`, which has them in one file.
//!
//! A netlink dump per IPv6 service takes the kernel five times as long as its rows of the file. The
//! rows lack thresholds, persistence templates, attributes of tunnels, and the family of a mark.

use std::fs::File;
use std::io::{self, BufRead, Read as _};
use std::net::IpAddr;

use patchbay_types::ipvs::{
    Forward, ListedServer, NonNegativeInt, Protocol, Server, ServerId, ServiceId, Stats,
};

use super::proc::{HEADER_LINES, MAX_ROW_BYTES, RULES};
use super::read_ahead::ReadAhead;

/// Beginning of a row of a server.
const SERVER: &[u8] = b"  -> ";

/// Cursor over the servers of all services, in the order in which netlink lists the services.
///
/// The kernel writes a service and its servers at once. If services come or go between two reads, it
/// leaves some out or repeats some: then the next row isn't that of the expected service.
#[derive(Debug)]
pub struct ProcLists<R = ReadAhead> {
    table: R,
    /// The row of the next service.
    row: Vec<u8>,
    servers: Vec<ListedServer>,
}

impl ProcLists {
    /// Opens the file and starts before the first service.
    ///
    /// # Errors
    /// Fails if the kernel has no IPVS.
    pub fn open() -> io::Result<Self> {
        Self::new(ReadAhead::new(File::open(RULES)?)?)
    }
}

impl<R: BufRead> ProcLists<R> {
    fn new(mut table: R) -> io::Result<Self> {
        for _ in 0..HEADER_LINES {
            table.skip_until(b'\n')?;
        }
        let mut lists = Self {
            table,
            row: Vec::new(),
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
        let length = table.take(MAX_ROW_BYTES).read_until(b'\n', &mut self.row)?;
        if length > 0 && self.row.last() != Some(&b'\n') {
            self.row.clear();
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

/// Parses `TCP  [2001:...:0001]:0050 rr persistent 25000 FFFF0000`; `None` for a mark.
fn service(mut row: &[u8]) -> Option<ServiceId> {
    let protocol = match word(&mut row) {
        b"TCP" => Protocol::Tcp,
        b"UDP" => Protocol::Udp,
        b"SCTP" => Protocol::Sctp,
        _ => return None,
    };
    let ServerId { address, port } = endpoint(word(&mut row))?;
    Some(ServiceId::Address {
        protocol,
        address,
        port,
    })
}

/// Parses `0A00000C:1F90      Masq    70000  0          0`; `None` for a tunnel.
fn server(mut row: &[u8]) -> Option<ListedServer> {
    let id = endpoint(word(&mut row))?;
    let forward = match word(&mut row) {
        b"Masq" => Forward::Masquerade,
        b"Local" => Forward::Local,
        b"Route" => Forward::Route,
        _ => return None,
    };
    let mut server = Server::new(id, forward);
    server.weight = NonNegativeInt::try_from(decimal(word(&mut row))?).ok()?;
    Some(ListedServer {
        server,
        active: decimal(word(&mut row))?,
        inactive: decimal(word(&mut row))?,
        persistent: 0,
        stats: Stats::default(),
    })
}

/// Takes the next word of a row; empty at its end.
fn word<'a>(row: &mut &'a [u8]) -> &'a [u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\n');
    let text = row.iter().position(|byte| !is_space(byte));
    let text = &row[text.unwrap_or(row.len())..];
    let end = text.iter().position(is_space).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    *row = rest;
    word
}

/// Parses address and port in hexadecimal digits.
fn endpoint(text: &[u8]) -> Option<ServerId> {
    let (ip, port) = text.split_last_chunk::<4>()?;
    let ip = ip.strip_suffix(b":")?;
    let address = if let Some(v6) = ip.strip_prefix(b"[") {
        v6_address(v6.strip_suffix(b"]")?)?
    } else {
        let (high, low) = ip.split_first_chunk()?;
        let bits = u32::from(hex(*high)?) << 16 | u32::from(hex(low.try_into().ok()?)?);
        bits.to_be_bytes().into()
    };
    let port = hex(*port)?;
    Some(ServerId { address, port })
}

/// Parses the kernel's eight groups of four digits; it leaves out none.
fn v6_address(text: &[u8]) -> Option<IpAddr> {
    let mut segments = [0; 8];
    let mut rest = text;
    for (index, segment) in segments.iter_mut().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(b":")?;
        }
        let (digits, after) = rest.split_first_chunk()?;
        *segment = hex(*digits)?;
        rest = after;
    }
    rest.is_empty().then(|| segments.into())
}

fn hex(digits: [u8; 4]) -> Option<u16> {
    let mut number = 0;
    for digit in digits {
        number = number << 4 | char::from(digit).to_digit(16)?;
    }
    u16::try_from(number).ok()
}

fn decimal(digits: &[u8]) -> Option<u32> {
    let mut number: u32 = 0;
    for digit in digits {
        let digit = char::from(*digit).to_digit(10)?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    (!digits.is_empty()).then_some(number)
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
    fn read_malformed_server_is_none() {
        let good =
            "[2001:0db8:0000:0000:0000:0000:0000:0001]:0050      Masq    1      0          0\n";
        assert!(server(good.as_bytes()).is_some());
        for (from, to) in [
            ("0db8", "0dg8"),
            ("0db8:", "0db8 "),
            ("0001]", "0001:0001]"),
            (":0001]", "]"),
            ("[", ""),
            ("]", ""),
            (":0050", ":50"),
            (":0050", ""),
            ("Masq", "Tunnel"),
            (" 1 ", " -1 "),
            (" 1 ", " 4294967296 "),
            ("0          0", "0"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_eq!(server(bad.as_bytes()), None, "{bad}");
        }
        for bad in [
            "0A00000C",
            "0A00000:1F90 Masq 1 0 0",
            "0A00000C0:1F90 Masq 1 0 0",
            "",
        ] {
            assert_eq!(server(bad.as_bytes()), None, "{bad}");
        }
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
        fn read_of_any_table_terminates(table: String, rows: Vec<Vec<u8>>) {
            let _ = lists(&table);
            for row in rows {
                let _ = (service(&row), server(&row));
            }
        }

        #[test]
        fn read_server_has_the_kernels_numbers(
            address: IpAddr, port: u16, weight in 0..i32::MAX.unsigned_abs(), active: u32
        ) {
            let address_text = match address {
                IpAddr::V4(v4) => format!("{:08X}", v4.to_bits()),
                IpAddr::V6(v6) => {
                    format!("[{}]", v6.segments().map(|part| format!("{part:04x}")).join(":"))
                }
            };
            let row = format!("{address_text}:{port:04X}      Route   {weight}      {active}          7");
            let listed = server(row.as_bytes()).unwrap();
            assert_eq!(listed.server.id, ServerId { address, port });
            assert_eq!(listed.server.weight.get(), weight);
            assert_eq!((listed.active, listed.inactive), (active, 7));
        }
    }
}
