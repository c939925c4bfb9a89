//! A new name for a link, also where the kernel wants it down for that.
//!
//! Linux before 6.2 answers EBUSY while the link is up. Going down costs its routes and its global
//! IPv6 addresses; coming up again brings back only the connected IPv4 routes. So what was there is
//! read first and what is missing is put back.

use nix::errno::Errno;
use patchbay_protocols::model::IfName;

use super::configure::{commit, one};
use super::state::{Admin, State};
use super::{Error, Kernel, Step};
use crate::netlink::{Batch, Kernel as _};
use crate::rtnl::link::Change;
use crate::rtnl::{address, route};

pub(super) fn rename(
    kernel: &mut Kernel,
    index: u32,
    from: &State,
    name: &IfName,
) -> Result<(), Error> {
    let change = Change::Name(name.clone());
    let step = Step::Rename(name.clone());
    match one(kernel, index, &change, step.clone()) {
        Err(Error::Refused { refusal, .. })
            if refusal.is(Errno::EBUSY) && from.admin == Admin::Up =>
        {
            let routes = route::through(&mut kernel.route, index)?;
            one(kernel, index, &Change::Down, Step::Down)?;
            let renamed = one(kernel, index, &change, step);
            let up = one(kernel, index, &Change::Up, Step::Up);
            let back = put_back(kernel, index, from, &routes);
            renamed.and(up).and(back)
        }
        done => done,
    }
}

fn put_back(
    kernel: &mut Kernel,
    index: u32,
    from: &State,
    routes: &[netlink_packet_route::route::RouteMessage],
) -> Result<(), Error> {
    let (mut batch, mut steps) = (Batch::default(), Vec::new());
    let left = address::list(&mut kernel.route)?;
    for address in from
        .addresses
        .iter()
        .filter(|a| !left.contains(&(index, **a)))
    {
        address::add(&mut batch, index, *address);
        steps.push(Step::PutBack);
    }
    commit(kernel, &batch, &steps)?;
    // One by one: a route through a gateway needs the route to that gateway.
    for route in routes {
        let mut batch = Batch::default();
        route::add(&mut batch, route);
        match kernel.route.commit(&batch)?.pop() {
            Some((_, refusal)) if !refusal.is(Errno::EEXIST) => {
                return Err(Error::Refused {
                    step: Step::PutBack,
                    refusal,
                });
            }
            _ => {}
        }
    }
    Ok(())
}
