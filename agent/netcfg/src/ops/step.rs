//! Sending the requests of one step, with an error that names it.

use patchbay_netlink::{Batch, KernelError, Rtnetlink, Transport as _};

use super::{ConfigAction, Error, Sockets};
use crate::rtnl::link::{self, SetLink};

/// Changes one setting of link `index`.
pub(super) fn set_link(sockets: &mut Sockets, index: u32, setting: SetLink) -> Result<(), Error> {
    let mut batch = Batch::default();
    link::change(&mut batch, index, &setting);
    send(sockets, &batch, |_| ConfigAction::SetLink(setting))
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
