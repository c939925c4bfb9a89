//! Replies of IPVS: a decoded reply crosses the wire unchanged and encodes to a valid request.

use patchbay_codec::TableRow;
use patchbay_netcfg::fuzz::{FuzzKernel, bodies};
use patchbay_netcfg::ipvs::Ipvs;
use patchbay_netlink::Batch;
use patchbay_types::ipvs::{Change, Detail, Family, ServiceId};
use patchbay_wire::convert::ipvs::status;
use patchbay_wire::proto::ipvs as wire;

use crate::packed::carried;
use crate::pick;

/// Reply of the generic netlink controller with family ID 0x22.
const FAMILY: [u8; 12] = [1, 2, 0, 0, 6, 0, 1, 0, 0x22, 0, 0, 0];

/// The first byte selects the request; the rest is the payload of the reply.
pub(crate) fn run(data: &[u8]) {
    let (kind, payload) = pick(data);
    let ipvs = Ipvs::resolve(&mut FuzzKernel::Payload(&FAMILY));
    let Ok(Some(ipvs)) = ipvs else {
        panic!("there is such a family");
    };
    let mut kernel = FuzzKernel::Payload(payload);
    match kind {
        b'0' => services(ipvs, &mut kernel),
        b'1' => servers(ipvs, &mut kernel, Family::V4),
        b'2' => servers(ipvs, &mut kernel, Family::V6),
        b'3' => {
            if let Ok(read) = ipvs.status(&mut kernel) {
                assert_eq!(status(&wire::StatusReply::from(&read)), Ok(read));
            }
        }
        b'4' => drop(Ipvs::resolve(&mut kernel)),
        _ => {}
    }
}

fn services(ipvs: Ipvs, kernel: &mut FuzzKernel<'_>) {
    for listed in ipvs.services(kernel, Detail::Full).into_iter().flatten() {
        carried(&TableRow::Service(listed.clone()));
        let mut batch = Batch::default();
        ipvs.push(&mut batch, &Change::AddService(listed.service));
        assert_eq!(bodies(&batch).len(), 1);
    }
}

fn servers(ipvs: Ipvs, kernel: &mut FuzzKernel<'_>, family: Family) {
    let id = ServiceId::Mark {
        mark: std::num::NonZeroU32::MIN,
        family,
    };
    for listed in ipvs.servers(kernel, id, Detail::Full).into_iter().flatten() {
        carried(&TableRow::Server(listed));
        let mut batch = Batch::default();
        ipvs.push(&mut batch, &Change::AddServer(id, listed.server));
        assert_eq!(bodies(&batch).len(), 1);
    }
}
