//! `SIOCETHTOOL`, for Linux before 5.7.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use patchbay_types::LinkName;

use patchbay_netlink::{Error, KernelError};

const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_SCHANNELS: u32 = 0x3d;

/// `struct ethtool_channels` of `linux/ethtool.h`.
#[repr(C)]
#[derive(Default)]
struct EthtoolChannels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx_count: u32,
    tx_count: u32,
    other_count: u32,
    combined_count: u32,
}

/// Returns the combined channels in use and their maximum.
pub(super) fn channels(name: &LinkName) -> Result<(u32, u32), Error> {
    let got = get(&control()?, name)?;
    Ok((got.combined_count, got.max_combined))
}

/// Sets the combined channels and keeps the other kinds.
pub(super) fn set_channels(name: &LinkName, pairs: u32) -> Result<(), Error> {
    let control = control()?;
    let mut channels = get(&control, name)?;
    channels.cmd = ETHTOOL_SCHANNELS;
    channels.combined_count = pairs;
    call(&control, name, &mut channels)
}

fn get(control: &OwnedFd, name: &LinkName) -> Result<EthtoolChannels, Error> {
    let mut channels = EthtoolChannels {
        cmd: ETHTOOL_GCHANNELS,
        ..EthtoolChannels::default()
    };
    call(control, name, &mut channels)?;
    Ok(channels)
}

fn control() -> Result<OwnedFd, Error> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Inet, SockType::Datagram, flags, None).map_err(|e| Error::Open(e.into()))
}

fn refused(errno: Errno) -> Error {
    Error::Refused(KernelError::from(errno))
}

#[expect(unsafe_code, reason = "ioctl with a pointer in its argument")]
fn call(control: &OwnedFd, name: &LinkName, channels: &mut EthtoolChannels) -> Result<(), Error> {
    // SAFETY: ifreq is plain data, for which all zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // A name has at most 15 bytes, so the terminating NUL stays.
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        // `c_char` is signed on some architectures only.
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(channels).cast();
    // SAFETY: `request` and the structure that it points to outlive the call, and for these two
    // commands the kernel accesses no more than their sizes.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    Errno::result(result).map(drop).map_err(refused)
}
