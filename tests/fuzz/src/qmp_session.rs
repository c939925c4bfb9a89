//! A monitor: its bytes come in any pieces, events stand anywhere.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair,
};

use crate::harmless;

/// What stands between two pieces: a byte that is in no UTF-8 text.
const CUT: u8 = 0xff;

/// Each record of the socket is what one `read` gets, and behind the last the monitor is closed;
/// so nothing is waited for.
pub fn run(data: &[u8]) {
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
        // A full queue ends what the monitor says.
        if send(theirs.as_raw_fd(), piece, MsgFlags::MSG_DONTWAIT).is_err() {
            break;
        }
    }
    shutdown(theirs.as_raw_fd(), Shutdown::Write).expect("a socket can be shut down");
    if let Err(failure) = patchbay_host::fuzz::monitor(UnixStream::from(ours)) {
        harmless::failure(&failure);
    }
}
