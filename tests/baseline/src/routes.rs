//! Creates host routes.

use std::ffi::CString;
use std::net::Ipv4Addr;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use patchbay_netlink::{Batch, Flags, Rtnetlink};

use crate::error::Error;
use crate::raw;

/// `RTM_NEWROUTE`.
const RTM_NEWROUTE: u16 = 24;
/// `rtmsg`: family `AF_INET`, destination length 32, table main, protocol static, scope universe, type
/// unicast.
const HEADER: [u8; 12] = [2, 32, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
/// `RTA_*`.
const DST: u16 = 1;
const OIF: u16 = 4;
const GATEWAY: u16 = 5;

const FIRST_DESTINATION: Ipv4Addr = Ipv4Addr::new(20, 0, 0, 0);

/// Creates `count` routes via one gateway.
pub(crate) fn fill(count: u32, device: &str, gateway: Ipv4Addr) -> Result<Duration, Error> {
    let device = CString::new(device).map_err(|_| Error::Usage)?;
    let index = if_nametoindex(device.as_c_str())?;
    let mut batch = Batch::<Rtnetlink>::default();
    for number in 0..count {
        let destination = Ipv4Addr::from(u32::from(FIRST_DESTINATION) + number);
        batch.push(RTM_NEWROUTE, Flags::Create, |body| {
            body.raw(&HEADER);
            body.bytes(DST, destination.octets());
            body.bytes(GATEWAY, gateway.octets());
            body.u32(OIF, index);
        });
    }
    raw::send_timed(&batch)
}
