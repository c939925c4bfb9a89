//! Renaming a link, also on kernels that require it to be down.
//!
//! Linux before 6.2 answers EBUSY while the link is up. Setting it down costs its routes and its global
//! IPv6 addresses; setting it up brings back only the connected IPv4 routes. The rest is restored.

use nix::errno::Errno;
use patchbay_types::{DadPolicy, LinkName};

use super::addresses::{self, OnFailure};
use super::link_settings::LinkSettings;
use super::step::set_link;
use super::{Error, Sockets};
use crate::rtnl::link::SetLink;
use crate::rtnl::route::RouteMsg;

pub(super) fn rename(
    sockets: &mut Sockets,
    index: u32,
    from: &LinkSettings,
    name: &LinkName,
    routes: &[RouteMsg],
) -> Result<(), Error> {
    match set_link(sockets, index, SetLink::Name(name.clone())) {
        Err(Error::Refused { error, .. }) if error.is(Errno::EBUSY) && from.up => {
            set_link(sockets, index, SetLink::Down)?;
            let renamed = set_link(sockets, index, SetLink::Name(name.clone()));
            let up = set_link(sockets, index, SetLink::Up);
            // The link had these addresses before, so they aren't duplicates.
            let restored = addresses::set(sockets, index, &from.addresses, DadPolicy::Skip)
                .and_then(|()| addresses::restore_routes(sockets, routes, OnFailure::Fail));
            renamed.and(up).and(restored)
        }
        result => result,
    }
}
