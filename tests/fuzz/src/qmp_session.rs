//! Bytes of a QMP monitor, in any pieces, with events anywhere.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair,
};

use crate::harmless;

/// Separates two pieces; not a byte of UTF-8 text.
const CUT: u8 = 0xff;

/// One `read` returns one piece; after the last the monitor is closed, so that nothing waits.
pub(crate) fn run(data: &[u8]) {
    let pair: Result<(OwnedFd, OwnedFd), _> = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    );
    let (ours, theirs) = pair.expect("a pair of sockets can be made");
    for piece in data
        .split(|byte| *byte == CUT)
        .filter(|piece| !piece.is_empty())
    {
        // The rest is dropped when the queue is full.
        if send(theirs.as_raw_fd(), piece, MsgFlags::MSG_DONTWAIT).is_err() {
            break;
        }
    }
    shutdown(theirs.as_raw_fd(), Shutdown::Write).expect("a socket can be shut down");
    if let Err(failure) = patchbay_host::fuzz::monitor(UnixStream::from(ours)) {
        harmless::failure(&failure);
    }
}
