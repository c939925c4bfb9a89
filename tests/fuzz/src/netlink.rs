//! Netlink datagrams: multipart replies, their end, errors with extended ACKs, nested attributes.

use patchbay_netcfg::fuzz::{FuzzKernel, walk};
use patchbay_netlink::genl::FamilyId;
use patchbay_netlink::{Batch, Error, Flags, Rtnetlink, Transport};

/// Parses the datagram on its own, as the reply to a dump and as that to a batch.
pub(crate) fn run(data: &[u8]) {
    assert!(walk(data) <= data.len(), "more is read than there is");
    let _ = FamilyId::resolve(&mut FuzzKernel::Datagram(data), "IPVS");
    let request = Batch::<Rtnetlink>::of(18, Flags::Plain, |body| body.raw(&[0; 16]));
    let mut kernel = FuzzKernel::Datagram(data);
    match kernel.send(&request) {
        Ok(refusals) => {
            for (position, refusal) in refusals {
                assert_eq!(position, 0);
                assert!(refusal.text.is_none_or(|text| text.len() <= 3 * 256));
            }
        }
        Err(error) => assert!(matches!(error, Error::Malformed(_) | Error::Overrun)),
    }
}
