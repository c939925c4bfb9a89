//! Source ports of the host.

use std::io;

use vsock::{VMADDR_CID_HOST, VsockAddr};

/// Ports of the host from which connections are accepted. Every process of the host has the same CID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostPort {
    /// Below 1024, which only privileged processes of the host can bind.
    Privileged,
    /// All, for a host whose vsock is a Unix socket of the VMM: that chooses the port, and the mode of its
    /// socket is the protection.
    Any,
}

/// Word on the kernel's command line, which the host writes, for [`HostPort::Any`].
const ANY: &str = "patchbay.host_port=any";
/// Ports that need a privilege end before this one (`net/vmw_vsock/af_vsock.c`).
const FIRST_UNPRIVILEGED: u32 = 1024;

impl HostPort {
    /// Reads the setting from the kernel's command line.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub(super) fn of_kernel() -> io::Result<Self> {
        std::fs::read_to_string("/proc/cmdline").map(|line| Self::parse(&line))
    }

    fn parse(line: &str) -> Self {
        if line.split_whitespace().any(|word| word == ANY) {
            Self::Any
        } else {
            Self::Privileged
        }
    }

    /// Returns whether the peer is a process of the host that the agent serves.
    pub(super) fn is(self, peer: VsockAddr) -> bool {
        peer.cid() == VMADDR_CID_HOST && (self == Self::Any || peer.port() < FIRST_UNPRIVILEGED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_cid_2_at_privileged_port() {
        for (cid, port, privileged, any) in [
            (2, 1023, true, true),
            (2, 1024, false, true),
            // The guest itself, by loopback and by its own CID.
            (1, 1023, false, false),
            (3, 7, false, false),
            (0, 7, false, false),
        ] {
            let peer = VsockAddr::new(cid, port);
            assert_eq!(HostPort::Privileged.is(peer), privileged, "{cid}:{port}");
            assert_eq!(HostPort::Any.is(peer), any, "{cid}:{port}");
        }
    }

    #[test]
    fn any_port_needs_the_whole_word() {
        let any = HostPort::parse("quiet patchbay.host_port=any panic=-1\n");
        assert_eq!(any, HostPort::Any);
        for line in [
            "",
            "patchbay.host_port=anything",
            "x.patchbay.host_port=any",
        ] {
            assert_eq!(HostPort::parse(line), HostPort::Privileged, "{line}");
        }
    }
}
