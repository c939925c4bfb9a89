//! Bringing the loopback link up, which IPVS needs: with `lo` down it takes no server's address.
//!
//! One hand-written rtnetlink request: an `ioctl` would need unsafe code, a netlink crate would be
//! more than the rest of this program.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFF_UP: u32 = 1;
/// The index of `lo` in every network namespace.
const LOOPBACK_INDEX: i32 = 1;

/// Sets `IFF_UP` on `lo`.
pub(crate) fn bring_up() -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(netlink.as_raw_fd(), &request(), &kernel, MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    check(&answer[..length])
}

/// A `nlmsghdr` and an `ifinfomsg`.
fn request() -> [u8; 32] {
    let mut message = [0; 32];
    message[0..4].copy_from_slice(&32_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    message[20..24].copy_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    message[24..28].copy_from_slice(&IFF_UP.to_ne_bytes());
    message[28..32].copy_from_slice(&IFF_UP.to_ne_bytes());
    message
}

/// Reads the `nlmsgerr` that acknowledges the request: zero, or a negated errno.
fn check(answer: &[u8]) -> io::Result<()> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed netlink answer");
    let kind = answer.get(4..6).ok_or_else(malformed)?;
    if kind != NLMSG_ERROR.to_ne_bytes() {
        return Err(malformed());
    }
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok());
    match i32::from_ne_bytes(code.ok_or_else(malformed)?) {
        0 => Ok(()),
        negated => Err(Errno::from_raw(negated.wrapping_neg()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledgement(code: i32) -> Vec<u8> {
        let mut answer = vec![0; 36];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer[16..20].copy_from_slice(&code.to_ne_bytes());
        answer
    }

    #[test]
    fn zero_acknowledges() {
        check(&acknowledgement(0)).unwrap();
    }

    #[test]
    fn negated_errno_becomes_the_error() {
        let error = check(&acknowledgement(-1)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(1));
    }

    #[test]
    fn short_answer_is_malformed() {
        let error = check(&acknowledgement(0)[..18]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
