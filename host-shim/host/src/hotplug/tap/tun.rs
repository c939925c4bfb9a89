//! Requests to `/dev/net/tun`.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use patchbay_types::LinkName;

/// Flags that QEMU's virtio-net needs: TAP, no packet information, virtio header.
pub(in crate::hotplug) const TAP: i32 = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
/// `_IOW('T', 202, int)` of `linux/if_tun.h`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
/// `_IOR('T', 210, unsigned int)`.
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
/// `_IO('T', 227)`.
const TUNGETDEVNETNS: libc::c_ulong = 0x54e3;

/// Makes an open `/dev/net/tun` a queue of a device, which is created if it is missing. In the name of
/// a new device the kernel replaces `%d` by a free number. Returns the name.
pub(in crate::hotplug) fn attach(
    queue: impl AsFd,
    name: impl AsRef<[u8]>,
    flags: i32,
) -> Result<String, Errno> {
    let mut request = InterfaceRequest {
        flags: flags.to_ne_bytes(),
        ..InterfaceRequest::default()
    };
    // A name has at most 15 bytes, so the closing NUL stays.
    for (to, from) in request.name.iter_mut().zip(name.as_ref()) {
        *to = *from;
    }
    exchange(queue, TUNSETIFF, &mut request)?;
    Ok(String::from_utf8_lossy(request.name()).into_owned())
}

/// Returns the present name of a queue's device.
pub(super) fn name(queue: impl AsFd) -> Result<LinkName, Errno> {
    let mut request = InterfaceRequest::default();
    exchange(queue, TUNGETIFF, &mut request)?;
    LinkName::try_from(request.name()).map_err(|_| Errno::ENODEV)
}

fn exchange(
    queue: impl AsFd,
    command: libc::c_ulong,
    request: &mut InterfaceRequest,
) -> Result<(), Errno> {
    let queue = queue.as_fd().as_raw_fd();
    #[expect(
        unsafe_code,
        reason = "no crate of the workspace has the ioctls of a TUN device"
    )]
    // SAFETY: TUNSETIFF and TUNGETIFF, the only commands of the callers, read and write one
    // `struct ifreq`, which lives until the call returns.
    let done = unsafe { libc::ioctl(queue, command, std::ptr::from_mut(request)) };
    Errno::result(done).map(drop)
}

/// Opens the network namespace of a queue's device; `None` on a kernel before 5.2, which can't.
pub(super) fn netns(queue: impl AsFd) -> Result<Option<OwnedFd>, Errno> {
    let queue = queue.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no crate of the workspace has TUNGETDEVNETNS")]
    // SAFETY: TUNGETDEVNETNS has no argument.
    let opened = unsafe { libc::ioctl(queue, TUNGETDEVNETNS) };
    let netns = match Errno::result(opened) {
        Err(Errno::EINVAL) => return Ok(None),
        opened => opened?,
    };
    #[expect(unsafe_code, reason = "the descriptor comes from the ioctl")]
    // SAFETY: the descriptor is new, and nothing else owns it.
    let netns = unsafe { OwnedFd::from_raw_fd(netns) };
    Ok(Some(netns))
}

/// `struct ifreq` of `linux/if.h`. The 16-bit flags are the low half of `flags`.
#[derive(Default)]
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: [u8; 4],
    rest: [u8; 20],
}

impl InterfaceRequest {
    fn name(&self) -> &[u8] {
        let name = self.name.split(|byte| *byte == 0).next();
        name.unwrap_or_default()
    }
}
