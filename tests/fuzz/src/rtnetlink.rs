//! Links, addresses and routes: the request that adds a listed route decodes to the same route.

use std::collections::HashMap;

use patchbay_codec::{pack, unpack};
use patchbay_netcfg::fuzz::{FuzzKernel, bodies};
use patchbay_netcfg::rtnl::{address, link, neighbor, route};
use patchbay_netlink::Batch;

use crate::pick;

/// The first byte selects the table; the rest is one message.
pub(crate) fn run(data: &[u8]) {
    let (kind, payload) = pick(data);
    let mut kernel = FuzzKernel::Payload(payload);
    match kind {
        b'0' => drop(link::list(&mut kernel)),
        b'1' => addresses(&mut kernel),
        b'2' => routes(&mut kernel),
        b'3' => neighbors(&mut kernel),
        _ => {}
    }
}

fn addresses(kernel: &mut FuzzKernel<'_>) {
    for listed in address::list(kernel, None).into_iter().flatten() {
        let mut batch = Batch::default();
        address::replace(&mut batch, &listed);
        let request = bodies(&batch).pop().expect("there is one request");
        let again = address::list(&mut FuzzKernel::Payload(&request), Some(listed.index));
        let again = again.unwrap_or_default();
        assert_eq!(again.len(), 1, "{listed:?} is encoded as {request:?}");
        assert_eq!(again[0].identity(), listed.identity());
    }
}

fn neighbors(kernel: &mut FuzzKernel<'_>) {
    for listed in neighbor::list(kernel).into_iter().flatten() {
        let mut batch = Batch::default();
        neighbor::add(&mut batch, &listed);
        let request = bodies(&batch).pop().expect("there is one request");
        let again = neighbor::list(&mut FuzzKernel::Payload(&request)).unwrap_or_default();
        assert_eq!(again, [listed]);
    }
}

fn routes(kernel: &mut FuzzKernel<'_>) {
    let names = HashMap::from([(3, "eth0".parse().expect("a name"))]);
    for listed in route::list(kernel).into_iter().flatten() {
        let mut batch = Batch::default();
        route::add(&mut batch, &listed);
        let request = bodies(&batch).pop().expect("there is one request");
        let again = route::list(&mut FuzzKernel::Payload(&request)).unwrap_or_default();
        assert_eq!(again.len(), 1, "{listed:?} is encoded as {request:?}");
        if let Some(converted) = listed.to_route(&names) {
            assert_eq!(again[0].to_route(&names).as_ref(), Some(&converted));
            assert_eq!(unpack(&pack(&converted)), Ok(converted));
        }
    }
}
