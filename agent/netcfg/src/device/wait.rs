//! Waiting for the kernel to show something: subscribe, look, then wait.

use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use patchbay_netlink::{Error, Rtnetlink, Socket, Uevent};

/// The groups of links and of IPv6 addresses (`RTMGRP_LINK`, `RTMGRP_IPV6_IFADDR`), and the kernel's
/// own uevents.
const LINKS: u32 = 0x001;
const IPV6_ADDRESSES: u32 = 0x100;
const KERNEL_UEVENTS: u32 = 1;

/// Looks until there is something to see or the deadline has passed.
///
/// An event only says that it is time to look again: what it tells is not read, so one that is
/// lost, late or lying does no harm. Whatever is pending is drained first, so a flood of events
/// costs one look and not one each.
///
/// # Errors
/// Those of `look`, and of the sockets.
pub fn until<T, E: From<Error>>(
    deadline: Instant,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let mut links = Socket::<Rtnetlink>::listen(LINKS | IPV6_ADDRESSES)?;
    let mut uevents = Socket::<Uevent>::listen(KERNEL_UEVENTS)?;
    loop {
        if let Some(seen) = look()? {
            return Ok(Some(seen));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let mut ready = [
            PollFd::new(links.as_fd(), PollFlags::POLLIN),
            PollFd::new(uevents.as_fd(), PollFlags::POLLIN),
        ];
        // poll counts whole milliseconds: one more, or the last would be spent in a loop.
        let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, left) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::Receive(errno.into()).into()),
        }
        links.drain();
        uevents.drain();
    }
}
