//! A new name for a link, also where the kernel wants it down for that.
//!
//! Linux before 6.2 answers EBUSY while the link is up. Going down costs its routes and its global
//! IPv6 addresses; coming up again brings back only the connected IPv4 routes. So what was there is
//! known before and what is missing is put back.

use nix::errno::Errno;
use patchbay_types::{DadPolicy, IfName};

use super::addresses::{self, Loss};
use super::configure::one;
use super::state::{Admin, State};
use super::{Error, Sockets, Step};
use crate::rtnl::link::Change;
use crate::rtnl::route::RouteMsg;

pub(super) fn rename(
    kernel: &mut Sockets,
    index: u32,
    from: &State,
    name: &IfName,
    routes: &[RouteMsg],
) -> Result<(), Error> {
    let change = Change::Name(name.clone());
    let step = Step::Rename(name.clone());
    match one(kernel, index, &change, step.clone()) {
        Err(Error::Refused { refusal, .. })
            if refusal.is(Errno::EBUSY) && from.admin == Admin::Up =>
        {
            one(kernel, index, &Change::Down, Step::Down)?;
            let renamed = one(kernel, index, &change, step);
            let up = one(kernel, index, &Change::Up, Step::Up);
            // They were there before: nobody else has them.
            let back = addresses::set(kernel, index, &from.addresses, DadPolicy::Skip)
                .and_then(|()| addresses::put_back(kernel, routes, Loss::Refused));
            renamed.and(up).and(back)
        }
        done => done,
    }
}
