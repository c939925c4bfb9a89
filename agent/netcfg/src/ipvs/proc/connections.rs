//! Connections, which IPVS tells nowhere else.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use patchbay_types::ipvs::{Connection, Peer};

/// Of the calling thread's network namespace.
const CONNECTIONS: &str = "/proc/thread-self/net/ip_vs_conn";

/// Longest row that is believed, in bytes; persistence engines add a few hundred.
const MAX_ROW: u64 = 4096;

/// Reads the connection table row by row.
pub fn connections(each: &mut dyn FnMut(Connection)) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(CONNECTIONS)?);
    let mut row = String::new();
    loop {
        row.clear();
        if (&mut reader).take(MAX_ROW).read_line(&mut row)? == 0 {
            return Ok(());
        }
        // The header is the one row that is none.
        if let Some(connection) = parse(&row) {
            each(connection);
        }
    }
}

/// `TCP 0A010002 B03C 0A010001 01BB 0A020002 1F90 TIME_WAIT       116 [pe data]`
pub(crate) fn parse(row: &str) -> Option<Connection> {
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

fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        // Eight groups of four digits.
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let bits = u32::from_str_radix(text, 16).ok()?;
    Some(Ipv4Addr::from(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_both_families_are_read() {
        let row = "TCP 0A010002 B03C 0A010001 01BB 0A020002 1F90 TIME_WAIT       116\n";
        let read = parse(row).unwrap();
        assert_eq!(read.client.address.to_string(), "10.1.0.2");
        assert_eq!((read.client.port, read.server.port), (45116, 8080));
        assert_eq!((read.state.as_str(), read.expires), ("TIME_WAIT", 116));
        assert_eq!(read.engine, None);
        let row = "UDP 20010db8000000000000000000000009 0000\n";
        assert_eq!(parse(row), None);
        let v6 = "2001:0db8:0000:0000:0000:0000:0000:0009";
        let row = format!("UDP {v6} 0000 {v6} 13C4 {v6} 13C4 ASSURED  60 sip 1-2@h\n");
        let read = parse(&row).unwrap();
        assert_eq!(read.client.address.to_string(), "2001:db8::9");
        assert_eq!(read.engine, Some(("sip".to_owned(), "1-2@h".to_owned())));
    }

    #[test]
    fn the_header_is_no_row() {
        let header =
            "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";
        assert_eq!(parse(header), None);
    }

    proptest::proptest! {
        #[test]
        fn any_row_ends(row: String) {
            let _ = parse(&row);
        }
    }
}
