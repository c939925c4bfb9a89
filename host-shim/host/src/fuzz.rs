//! Private parsers for the fuzz targets.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use patchbay_types::failure::Failure;

use crate::hotplug::Inventory;
use crate::mirror;
use crate::qmp::{End, Session, replies_of_virsh};
use crate::sandbox::{Journal, SandboxId, qemu_cid};
use crate::vsock_stream;

/// Returns the CID on the command line of the sandbox's QEMU.
#[must_use]
pub fn cid(line: &[u8], id: &str) -> Option<String> {
    let id: SandboxId = id.parse().ok()?;
    qemu_cid(line, &id).map(str::to_owned)
}

/// Reads the journal below `state`, rewrites each card, and returns whether all stayed the same.
pub fn journal_round_trips(state: &Path) -> Result<bool, Failure> {
    let journal = Journal::at(state);
    let mut unchanged = true;
    for card in journal.cards()? {
        journal.write(&card)?;
        unchanged &= journal.card(&card.name)?.as_ref() == Some(&card);
        journal.remove(&card.name)?;
    }
    Ok(unchanged)
}

/// Reads a datagram of the kernel as each list of objects that a mirrored link needs.
#[must_use]
pub fn namespace_links(datagram: &[u8]) -> usize {
    mirror::fuzz::read(datagram)
}

/// Performs the handshake of a hybrid vsock connection.
pub fn handshake(stream: &UnixStream) -> io::Result<()> {
    vsock_stream::handshake(stream, 7, Instant::now() + Duration::from_secs(5))
}

/// Runs a QMP session: greeting and inventory.
pub fn monitor(stream: UnixStream) -> Result<(), Failure> {
    let mut session = Session::over(stream, Path::new("/qmp.sock"), Duration::from_secs(5))?;
    Inventory::read(&mut session)?.nics();
    Ok(())
}

/// Reads the output of virsh for so many requests, of a process that has ended and of one that has not; returns the
/// replies of each, one per line.
pub fn virsh_output(bytes: &[u8], requests: usize) -> [Result<Vec<u8>, Failure>; 2] {
    [End::Ended, End::Late].map(|end| Ok(replies_of_virsh(bytes, end, requests)?))
}
