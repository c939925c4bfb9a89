//! Reads a table of the kernel without decoding it.

use std::str::FromStr;
use std::time::{Duration, Instant};

use patchbay_netlink::{Batch, Flags, RecvBuffer, Rtnetlink, Socket, dump};

use crate::error::Error;

/// Table of rtnetlink.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Table {
    Routes,
    Addresses,
}

impl FromStr for Table {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "routes" => Ok(Self::Routes),
            "addresses" => Ok(Self::Addresses),
            _ => Err(Error::Usage),
        }
    }
}

/// Reads the table of both families.
pub(crate) fn read(table: Table) -> Result<Duration, Error> {
    // RTM_GETROUTE with `rtmsg`, RTM_GETADDR with `ifaddrmsg`.
    let (number, header): (u16, &[u8]) = match table {
        Table::Routes => (26, &[0; 12]),
        Table::Addresses => (22, &[0; 8]),
    };
    let request = Batch::<Rtnetlink>::of(number, Flags::Dump, |body| body.raw(header));
    let mut socket = Socket::<Rtnetlink>::open(RecvBuffer::Large)?;
    let start = Instant::now();
    dump(&mut socket, &request, |_| Ok(None::<()>))?;
    Ok(start.elapsed())
}
