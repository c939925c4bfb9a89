//! Events of the network namespace.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use patchbay_netlink::{Error as NetlinkError, Rtnetlink, Socket};
use patchbay_types::NetEvent;

use super::{Error, Netcfg};
use crate::rtnl::event::{self, LinkNames};
use crate::rtnl::link;

/// Maximum number of events that are passed on at once.
const MAX_BATCH: usize = 256;

/// Subscription to the events of links, addresses and routes. The kernel's buffer of the socket is its only
/// queue; what doesn't fit there is lost.
#[derive(Debug)]
pub struct NetEvents {
    events: Socket<Rtnetlink>,
    requests: Socket<Rtnetlink>,
    names: LinkNames,
}

impl Netcfg {
    /// Subscribes to the events of the network namespace.
    ///
    /// # Errors
    /// Failures of the kernel.
    pub fn events(&self) -> Result<NetEvents, Error> {
        let mut events = NetEvents {
            // Before the list, or a link that appears in between would stay unknown.
            events: event::subscribe()?,
            requests: self.sockets()?.route,
            names: LinkNames::default(),
        };
        events.list_links()?;
        Ok(events)
    }
}

impl NetEvents {
    fn list_links(&mut self) -> Result<(), NetlinkError> {
        let listed = link::list(&mut self.requests)?.into_iter();
        self.names = listed.map(|link| (link.index, link.name)).collect();
        Ok(())
    }

    /// Waits at most for `limit`, and passes on the events that have come, at most 256.
    ///
    /// # Errors
    /// Failures of the kernel.
    pub fn next(
        &mut self,
        limit: Duration,
        each: &mut dyn FnMut(&NetEvent) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut ready = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, limit) {
            Ok(0) | Err(Errno::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(NetlinkError::Receive(error.into()).into()),
        }
        for _ in 0..MAX_BATCH {
            let Self { events, names, .. } = self;
            let mut flow = ControlFlow::Continue(());
            let read = events.read_events(&mut |number, payload| {
                // A message that can't be read is one of a kind that no list has.
                if let Ok(Some(event)) = event::read(names, number, payload) {
                    flow = each(&event);
                }
            });
            let lost = match read {
                Ok(false) => return Ok(()),
                Ok(true) => false,
                Err(NetlinkError::Overrun | NetlinkError::Truncated) => true,
                Err(error) => return Err(error.into()),
            };
            if lost {
                let _ = each(&NetEvent::Lost);
                // Those that are left are older than the list, and would bring back earlier names.
                self.events.drain();
                self.list_links()?;
                // In a flood the next loss follows at once; the caller pauses before it.
                return Ok(());
            }
            if flow.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}
