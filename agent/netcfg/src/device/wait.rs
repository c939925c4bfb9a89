//! Waiting for a change of the kernel's state.

use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cancellation::{Cancellation, Cancelled};
use patchbay_netlink::{Error, Rtnetlink, Socket, Uevent};

/// `RTMGRP_LINK`, `RTMGRP_IPV6_IFADDR`, and the group of the kernel's uevents.
const LINKS: u32 = 0x001;
const IPV6_ADDRESSES: u32 = 0x100;
const KERNEL_UEVENTS: u32 = 1;

/// Interval in which a wait looks for its cancellation, in milliseconds.
const CANCELLATION_INTERVAL: u128 = 100;

/// Calls `check` after each event of links, IPv6 addresses and devices until it returns a value.
/// Returns `None` at the deadline.
///
/// Events only trigger the next check and their contents are not read, so one that is lost, late or
/// forged does no harm. All pending events are drained first, so a flood of them costs one check.
///
/// # Errors
/// Fails if `check` or a socket fails, and soon after the cancellation.
pub fn wait_until<T, E: From<Error> + From<Cancelled>>(
    deadline: Instant,
    cancellation: &Cancellation,
    mut check: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let mut links = Socket::<Rtnetlink>::listen(LINKS | IPV6_ADDRESSES)?;
    let mut uevents = Socket::<Uevent>::listen(KERNEL_UEVENTS)?;
    loop {
        if let Some(value) = check()? {
            return Ok(Some(value));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        let mut ready = [
            PollFd::new(links.as_fd(), PollFlags::POLLIN),
            PollFd::new(uevents.as_fd(), PollFlags::POLLIN),
        ];
        while poll_until(&mut ready, deadline)? == 0 && Instant::now() < deadline {
            cancellation.check()?;
        }
        links.drain();
        uevents.drain();
    }
}

/// Polls until an event, but not for longer than the interval of cancellation. Returns the number of
/// sockets that are ready.
fn poll_until(ready: &mut [PollFd<'_>], deadline: Instant) -> Result<i32, Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    // poll has a resolution of 1 ms: round up, or the last one is spent in a busy loop.
    let left = (left.as_millis() + 1).min(CANCELLATION_INTERVAL);
    match poll(
        ready,
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
    ) {
        Err(Errno::EINTR) => Ok(0),
        result => result.map_err(|errno| Error::Receive(errno.into())),
    }
}
