//! Routes to single addresses.

use std::ffi::CString;
use std::net::Ipv4Addr;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use patchbay_netlink::{Batch, Flags, Rtnetlink};

use crate::error::Error;
use crate::raw;

const NEW_ROUTE: u16 = 24;
/// `rtmsg`: family `AF_INET`, destination's length 32, table main, protocol static, scope universe,
/// kind unicast.
const HEADER: [u8; 12] = [2, 32, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
const DST: u16 = 1;
const OIF: u16 = 4;
const GATEWAY: u16 = 5;

const FIRST: Ipv4Addr = Ipv4Addr::new(20, 0, 0, 0);

/// As many as `count`, all by one gateway.
pub(crate) fn fill(count: u32, device: &str, gateway: Ipv4Addr) -> Result<Duration, Error> {
    let device = CString::new(device).map_err(|_| Error::Usage)?;
    let index = if_nametoindex(device.as_c_str())?;
    let mut batch = Batch::<Rtnetlink>::default();
    for number in 0..count {
        let dest = Ipv4Addr::from(u32::from(FIRST) + number);
        batch.push(NEW_ROUTE, Flags::Create, |body| {
            body.raw(&HEADER);
            body.bytes(DST, dest.octets());
            body.bytes(GATEWAY, gateway.octets());
            body.u32(OIF, index);
        });
    }
    raw::carry_out(&batch)
}
