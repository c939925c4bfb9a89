//! Sending the requests of one step, with an error that names the one that failed.

use patchbay_netlink::{Batch, KernelError, Rtnetlink, Transport as _};

use super::{ConfigAction, Error, Sockets};
use crate::rtnl::address::{self, LinkAddress};
use crate::rtnl::link::{self, SetLink};

/// Direction of an exchange of entries of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// A change, which can be cancelled between two pieces.
    Change,
    /// The undo of a change.
    Undo,
}

impl Direction {
    /// Maximum number of entries of a piece.
    pub(super) const PIECE: usize = 1024;

    /// Checks that the exchange goes on.
    pub(super) fn check(self, sockets: &Sockets) -> Result<(), Error> {
        match self {
            Self::Change => Ok(sockets.cancellation.check()?),
            Self::Undo => Ok(()),
        }
    }
}

/// Requests of one step with the actions that they carry out.
#[derive(Debug, Default)]
pub(super) struct Step {
    batch: Batch<Rtnetlink>,
    actions: Vec<ConfigAction>,
}

impl Step {
    /// Appends the requests that `fill` appends to the batch.
    pub(super) fn push(
        &mut self,
        action: ConfigAction,
        fill: impl FnOnce(&mut Batch<Rtnetlink>),
    ) -> &mut Self {
        fill(&mut self.batch);
        self.actions.resize(self.batch.len(), action);
        self
    }

    /// Appends the change of a setting of link `index`.
    pub(super) fn set_link(&mut self, index: u32, setting: SetLink) -> &mut Self {
        link::change(&mut self.batch, index, &setting);
        self.actions.push(ConfigAction::SetLink(setting));
        self
    }

    /// Appends the removals of addresses.
    pub(super) fn remove_addresses<'a>(
        &mut self,
        addresses: impl IntoIterator<Item = &'a LinkAddress>,
    ) {
        for old in addresses {
            let action = ConfigAction::RemoveAddress(old.address);
            self.push(action, |batch| address::remove(batch, old));
        }
    }

    /// Sends the requests.
    ///
    /// # Errors
    /// The first error of the kernel that is not `ignored`.
    pub(super) fn send(
        &mut self,
        sockets: &mut Sockets,
        ignored: impl Fn(&KernelError) -> bool,
    ) -> Result<(), Error> {
        send_ignoring(sockets, &self.batch, ignored, |position| {
            self.actions[position].clone()
        })
    }
}

/// Changes one setting of link `index`.
pub(super) fn set_link(sockets: &mut Sockets, index: u32, setting: SetLink) -> Result<(), Error> {
    Step::default()
        .set_link(index, setting)
        .send(sockets, |_| false)
}

/// Sends requests that don't depend on each other. `action` maps the position of the first one that
/// failed to its action.
pub(super) fn send(
    sockets: &mut Sockets,
    batch: &Batch<Rtnetlink>,
    action: impl FnOnce(usize) -> ConfigAction,
) -> Result<(), Error> {
    send_ignoring(sockets, batch, |_| false, action)
}

/// Like [`send`], but ignores some of the kernel's errors.
pub(super) fn send_ignoring(
    sockets: &mut Sockets,
    batch: &Batch<Rtnetlink>,
    ignored: impl Fn(&KernelError) -> bool,
    action: impl FnOnce(usize) -> ConfigAction,
) -> Result<(), Error> {
    let mut errors = sockets.route.send(batch)?.into_iter();
    match errors.find(|(_, error)| !ignored(error)) {
        Some((position, error)) => Err(Error::Refused {
            action: action(position),
            error,
        }),
        None => Ok(()),
    }
}
