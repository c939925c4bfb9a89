//! Renaming a link, also on kernels that require it to be down.
//!
//! Linux before 6.2 answers EBUSY while the link is up, and another program can set it up between two
//! requests of this one. Setting it down costs its routes, IPv6 addresses and static neighbors;
//! setting it up brings back only the connected IPv4 routes. The rest is restored.

use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use patchbay_types::{AdminState, LinkName};

use super::down_losses::DownLosses;
use super::step::set_link;
use super::{Error, Sockets, neighbors};
use crate::cancellation::Cancellation;
use crate::device;
use crate::rtnl::link::SetLink;

/// Renames link `index`; retries until `deadline` while another program keeps setting it up.
pub(super) fn rename(
    sockets: &mut Sockets,
    index: u32,
    name: &LinkName,
    deadline: Instant,
) -> Result<(), Error> {
    let set_name = |sockets: &mut Sockets| set_link(sockets, index, SetLink::Name(name.clone()));
    match set_name(sockets) {
        Err(error) if is_busy(&error) => {}
        result => return result,
    }
    let tables = Arc::clone(&sockets.tables);
    let _held = tables.share();
    let losses = DownLosses::read(sockets, index)?;
    let neighbors = neighbors::of_link(sockets, index)?;
    let mut last = None;
    // The link must not be left down.
    let never = Cancellation::default();
    let renamed = device::wait_until(deadline, &never, || {
        set_link(sockets, index, SetLink::State(AdminState::Down))?;
        match set_name(sockets) {
            Err(error) if is_busy(&error) => {
                last = Some(error);
                Ok(None)
            }
            result => result.map(Some),
        }
    });
    let up = set_link(sockets, index, SetLink::State(AdminState::Up));
    let restored = losses
        .restore(sockets)
        .and_then(|()| neighbors::set(sockets, index, &neighbors));
    renamed
        .and_then(|renamed| match (renamed, last) {
            (None, Some(busy)) => Err(busy),
            _ => Ok(()),
        })
        .and(up)
        .and(restored)
}

fn is_busy(error: &Error) -> bool {
    matches!(error, Error::Refused { error, .. } if error.is(Errno::EBUSY))
}
