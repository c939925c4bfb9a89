//! Fills and reads the IPVS table.

use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use patchbay_codec::{Packed as _, TableRowRef};
use patchbay_grammar::NoNames;
use patchbay_grammar::ipvsadm::{Grammar, read_rules};
use patchbay_netcfg::ipvs::{Ipvs, SockoptLists};
use patchbay_netlink::genl::FamilyId;
use patchbay_netlink::{Batch, Generic, RecvBuffer, Socket, Transport as _};
use patchbay_types::ipvs::{Change, Forward, ListedServer, RuleLine, Stats};

use crate::error::Error;
use crate::raw;

/// Generic netlink family, and `IPVS_CMD_GET_SERVICE`.
const FAMILY: &str = "IPVS";
const GET_SERVICE: u8 = 4;

fn lines(file: &str) -> Result<Vec<RuleLine>, Error> {
    let grammar = Grammar {
        names: &NoNames,
        forward: Forward::Masquerade,
    };
    Ok(read_rules(&grammar, &fs::read_to_string(file)?)?)
}

/// Returns the encoded size, in bytes, of a rule file and of a fresh table with its rules.
pub(crate) fn packed(file: &str) -> Result<(usize, usize), Error> {
    let lines = lines(file)?;
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    for line in &lines {
        line.pack(&mut sent);
        match &line.change {
            Change::AddService(service) => {
                TableRowRef::Service(service, &Stats::default()).pack(&mut received);
            }
            Change::AddServer(_, server) => TableRowRef::Server(&ListedServer {
                server: *server,
                active: 0,
                inactive: 0,
                persistent: 0,
                stats: Stats::default(),
            })
            .pack(&mut received),
            _ => {}
        }
    }
    Ok((sent.len(), received.len()))
}

/// Creates the rules of a file.
pub(crate) fn fill(file: &str) -> Result<Duration, Error> {
    let lines = lines(file)?;
    let mut socket = Socket::<Generic>::open(RecvBuffer::Small)?;
    let ipvs = Ipvs::resolve(&mut socket)?.ok_or(Errno::ENOENT)?;
    let mut batch = Batch::default();
    for line in &lines {
        ipvs.push(&mut batch, &line.change);
    }
    raw::send_timed(&batch)
}

/// Reads services by netlink and servers by the getsockopt lists, as the agent does, and discards them.
pub(crate) fn read() -> Result<Duration, Error> {
    let mut socket = Socket::<Generic>::open(RecvBuffer::Large)?;
    let request = FamilyId::resolve(&mut socket, FAMILY)?.dump(GET_SERVICE, |_| {});
    let start = Instant::now();
    socket.dump(&request, &mut |_| Ok(()))?;
    let mut lists = SockoptLists::open()?;
    while lists.dump().is_some() {}
    Ok(start.elapsed())
}
