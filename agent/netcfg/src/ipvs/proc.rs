//! IPVS tables that only `/proc` has: connections, and the number of rules of both families.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use patchbay_types::ipvs::{Connection, Peer};

/// Files of the calling thread's network namespace.
const CONNECTIONS: &str = "/proc/thread-self/net/ip_vs_conn";
pub(super) const RULES: &str = "/proc/thread-self/net/ip_vs";

/// Maximum length of a row; persistence engines add a few hundred bytes to one of a connection.
pub(super) const MAX_ROW_BYTES: u64 = 4096;
/// Lines above the first service.
pub(super) const HEADER_LINES: usize = 3;

/// Passes the rows of the connection table to `each`, until it breaks.
pub fn connections(each: &mut dyn FnMut(Connection) -> ControlFlow<()>) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(CONNECTIONS)?);
    let mut row = String::new();
    loop {
        row.clear();
        if (&mut reader).take(MAX_ROW_BYTES).read_line(&mut row)? == 0 {
            return Ok(());
        }
        // Only the header doesn't parse.
        if let Some(connection) = connection(&row)
            && each(connection).is_break()
        {
            return Ok(());
        }
    }
}

/// Parses `TCP 0A010002 B03C 0A010001 01BB 0A020002 1F90 TIME_WAIT       116 [pe data]`.
pub(crate) fn connection(row: &str) -> Option<Connection> {
    let mut words = row.split_whitespace();
    let protocol = words.next()?.to_owned();
    let mut peer = || {
        let address = address(words.next()?)?;
        let port = u16::from_str_radix(words.next()?, 16).ok()?;
        Some(Peer { address, port })
    };
    let (client, virtual_end, server) = (peer()?, peer()?, peer()?);
    let state = words.next()?.to_owned();
    let expires = words.next()?.parse().ok()?;
    let engine = words.next().map(str::to_owned);
    let data = words.next().unwrap_or_default().to_owned();
    Some(Connection {
        protocol,
        client,
        virtual_end,
        server,
        state,
        expires,
        engine: engine.map(|engine| (engine, data)),
    })
}

/// Parses hexadecimal digits, for IPv6 with colons.
fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let bits = u32::from_str_radix(text, 16).ok()?;
    Some(Ipv4Addr::from(bits).into())
}

/// Returns the number of services and servers.
pub fn count_rules() -> io::Result<usize> {
    count_rows(BufReader::new(File::open(RULES)?))
}

fn count_rows(mut table: impl BufRead) -> io::Result<usize> {
    let mut rows = 0;
    while table.skip_until(b'\n')? > 0 {
        rows += 1;
    }
    Ok(usize::saturating_sub(rows, HEADER_LINES))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded on Linux 6.1.
    const TABLE: &str = "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A000001:0050 rr persistent 25000 FFFF0000
  -> 0A00000C:1F90      Masq    70000  0          0         
UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:13C4 sh persistent 75000 00000040
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0035      Masq    3      0          0         
FWM  0000000C wrr
";

    #[test]
    fn count_rules_skips_header() {
        assert_eq!(count_rows(TABLE.as_bytes()).unwrap(), 5);
        assert_eq!(count_rows(&TABLE.as_bytes()[..20]).unwrap(), 0);
    }

    #[test]
    fn parse_connections_of_both_families() {
        let row = "TCP 0A010002 B03C 0A010001 01BB 0A020002 1F90 TIME_WAIT       116\n";
        let read = connection(row).unwrap();
        assert_eq!(read.client.address.to_string(), "10.1.0.2");
        assert_eq!((read.client.port, read.server.port), (45116, 8080));
        assert_eq!((read.state.as_str(), read.expires), ("TIME_WAIT", 116));
        assert_eq!(read.engine, None);
        let row = "UDP 20010db8000000000000000000000009 0000\n";
        assert_eq!(connection(row), None);
        let v6 = "2001:0db8:0000:0000:0000:0000:0000:0009";
        let row = format!("UDP {v6} 0000 {v6} 13C4 {v6} 13C4 ASSURED  60 sip 1-2@h\n");
        let read = connection(&row).unwrap();
        assert_eq!(read.client.address.to_string(), "2001:db8::9");
        assert_eq!(read.engine, Some(("sip".to_owned(), "1-2@h".to_owned())));
    }

    #[test]
    fn parse_connection_header_is_none() {
        let header =
            "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";
        assert_eq!(connection(header), None);
    }

    proptest::proptest! {
        #[test]
        fn parse_of_any_row_terminates(row: String) {
            let _ = connection(&row);
        }
    }
}
