//! Notifications of a network namespace.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::netns::Netns;

/// Groups of links, addresses and routes. The tables of neighbors change with every conversation.
const GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
];
/// Maximum number of datagrams that are read at once, so that no namespace can keep the process busy.
const MAX_READ: usize = 256;

/// Rtnetlink socket that receives the notifications. It keeps the namespace alive.
#[derive(Debug)]
pub(super) struct Events(Socket);

impl Events {
    /// Subscribes to the namespace's notifications.
    pub(super) fn of(netns: &Netns) -> io::Result<Self> {
        netns.run(|| {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            socket.set_non_blocking(true)?;
            Ok(Self(socket))
        })
    }

    /// Discards the notifications that have come. They only show that something has changed, so a loss
    /// (`ENOBUFS`) is one more of them: the state is always read as a whole.
    pub(super) fn drain(&self) {
        for _ in 0..MAX_READ {
            match self.0.recv_from_full() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Reading on reports another error again, or the end of the overflow.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use nix::sched::{CloneFlags, unshare};

    fn ip(words: &str) {
        let done = Command::new("ip").args(words.split(' ')).status();
        assert!(done.unwrap().success(), "{words}");
    }

    fn is_readable(events: &Events) -> bool {
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
    }

    #[test]
    fn events_report_changes_and_overflow_once() {
        let test = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            ip("link add net1 type veth peer peer1");
            let events = Events::of(&Netns::current().unwrap()).unwrap();
            assert!(!is_readable(&events));
            for words in [
                "link set net1 up",
                "addr add 10.0.0.1/24 dev net1",
                "addr add fd00::1/64 dev net1 nodad",
                "route add 10.2.0.0/16 via 10.0.0.9",
                "link del net1",
            ] {
                events.drain();
                ip(words);
                assert!(is_readable(&events), "{words}");
            }
            // More than the socket's buffer holds.
            let lines = (0..4000).map(|n| {
                let (high, low) = (n / 250, n % 250 + 1);
                format!("addr add 10.9.{high}.{low}/32 dev lo\n")
            });
            let batch = lines.collect::<Vec<_>>().concat();
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("batch");
            std::fs::write(&file, batch).unwrap();
            ip(&format!("-batch {}", file.display()));
            for _ in 0..100 {
                events.drain();
            }
            assert!(!is_readable(&events));
            ip("addr add 10.10.0.1/32 dev lo");
            assert!(is_readable(&events));
        };
        std::thread::scope(|scope| scope.spawn(test).join().unwrap());
    }
}
