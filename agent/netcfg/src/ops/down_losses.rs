//! Parts of a link that the kernel removes when it is set down, besides its static neighbors.
//!
//! IPv4 addresses stay. IPv6 addresses can be added again at once, and the kernel makes the routes to their
//! networks when the link is set up. Other routes can't be added to a link that is down.

use nix::errno::Errno;

use super::lost_routes::{LostRoutes, OnFailure};
use super::step::Step;
use super::{ConfigAction, Error, Sockets};
use crate::rtnl::address::{self, LinkAddress};

/// Addresses and routes of a link.
#[derive(Debug)]
pub(super) struct DownLosses {
    addresses: Vec<LinkAddress>,
    routes: LostRoutes,
}

impl DownLosses {
    /// Reads them from link `index`.
    pub(super) fn read(sockets: &mut Sockets, index: u32) -> Result<Self, Error> {
        let addresses = address::list(&mut sockets.route, Some(index))?;
        let sources = addresses.iter().map(|found| found.address.ip());
        let routes = LostRoutes::read(sockets, None, Some(index), sources)?;
        Ok(Self { addresses, routes })
    }

    /// Restores what a link that is down can have.
    pub(super) fn restore_addresses(&self, sockets: &mut Sockets) -> Result<(), Error> {
        self.add(sockets, LinkAddress::is_kept_while_down)
    }

    /// Restores everything on a link that is up again.
    pub(super) fn restore(&self, sockets: &mut Sockets) -> Result<(), Error> {
        self.add(sockets, |found| !found.temporary)?;
        self.routes.restore(sockets, OnFailure::Fail)
    }

    fn add(
        &self,
        sockets: &mut Sockets,
        selects: impl Fn(&LinkAddress) -> bool,
    ) -> Result<(), Error> {
        let mut step = Step::default();
        // The kernel lists an IPv6 address before those that were added earlier.
        for found in self.addresses.iter().rev().filter(|found| selects(found)) {
            let action = ConfigAction::AddAddress(found.address);
            step.push(action, |batch| address::restore(batch, found));
        }
        step.send(sockets, |error| error.is(Errno::EEXIST))
    }
}
