//! The few ioctls on network devices of the host (`linux/if.h`, `linux/if_tun.h`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use patchbay_types::IfName;

use crate::netns::LinkState;

/// `_IOW('T', 202, int)`; libc lacks it.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

const ETHTOOL_GDRVINFO: u32 = 3;

/// The beginning of `struct ethtool_drvinfo` of `linux/ethtool.h`, and room for the rest.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus_info: [u8; 32],
    rest: [u8; 64],
}

impl Default for DriverInfo {
    fn default() -> Self {
        let text = [0; 32];
        Self {
            cmd: 0,
            driver: text,
            version: text,
            firmware: text,
            bus_info: text,
            rest: [0; 64],
        }
    }
}

/// The devices of the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Links(OwnedFd);

impl Links {
    /// Those of the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(Self(socket(
            AddressFamily::Inet,
            SockType::Datagram,
            flags,
            None,
        )?))
    }

    /// MTU and state of a device; `None` when there is none of that name.
    pub(super) fn state(&self, name: &IfName) -> io::Result<Option<LinkState>> {
        let mut request = request(name);
        match ioctl(&self.0, libc::SIOCGIFMTU, &mut request) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            other => other?,
        }
        #[allow(unsafe_code)]
        // SAFETY: SIOCGIFMTU has just filled this field of the union.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        let up = self.flags(name)? & libc::IFF_UP != 0;
        Ok(Some(LinkState {
            mtu: u32::try_from(mtu).unwrap_or_default(),
            up,
        }))
    }

    /// Gives a device this MTU and state; what it has already is left alone.
    pub(super) fn set(&self, name: &IfName, to: LinkState) -> io::Result<()> {
        let Some(now) = self.state(name)? else {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        };
        if now.mtu != to.mtu {
            let mut request = request(name);
            request.ifr_ifru.ifru_mtu = i32::try_from(to.mtu).unwrap_or(i32::MAX);
            ioctl(&self.0, libc::SIOCSIFMTU, &mut request)?;
        }
        if now.up != to.up {
            let mut request = request(name);
            let flags = self.flags(name)? & !libc::IFF_UP;
            let flags = if to.up { flags | libc::IFF_UP } else { flags };
            // The kernel has them in 16 bits.
            let [low, high, ..] = flags.to_ne_bytes();
            request.ifr_ifru.ifru_flags = i16::from_ne_bytes([low, high]);
            ioctl(&self.0, libc::SIOCSIFFLAGS, &mut request)?;
        }
        Ok(())
    }

    /// Whether a device is a TAP: of all drivers only `tun` calls its bus so.
    pub(super) fn is_tap(&self, name: &IfName) -> io::Result<bool> {
        let mut info = DriverInfo {
            cmd: ETHTOOL_GDRVINFO,
            ..DriverInfo::default()
        };
        let mut request = request(name);
        request.ifr_ifru.ifru_data = (&raw mut info).cast();
        match ioctl(&self.0, libc::SIOCETHTOOL, &mut request) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            done => done.map(|()| info.bus_info.starts_with(b"tap\0")),
        }
    }

    fn flags(&self, name: &IfName) -> io::Result<i32> {
        let mut request = request(name);
        ioctl(&self.0, libc::SIOCGIFFLAGS, &mut request)?;
        #[allow(unsafe_code)]
        // SAFETY: SIOCGIFFLAGS has just filled this field of the union.
        Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
    }
}

/// Makes an open `/dev/net/tun` a queue of the TAP of this name (`TUNSETIFF`, `IFF_*`).
pub(super) fn attach(tun: &OwnedFd, name: &IfName, flags: i32) -> Result<(), Errno> {
    let mut request = request(name);
    let [low, high, ..] = flags.to_ne_bytes();
    request.ifr_ifru.ifru_flags = i16::from_ne_bytes([low, high]);
    ioctl(tun, TUNSETIFF, &mut request)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
}

fn request(name: &IfName) -> libc::ifreq {
    #[allow(unsafe_code)]
    // SAFETY: ifreq is plain data of the kernel, for which all zeroes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // A name has at most 15 bytes, so the last of the 16 stays the closing NUL.
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn ioctl(fd: &impl AsFd, number: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    #[allow(unsafe_code)]
    // SAFETY: each number used in this file reads and writes one ifreq, which lives until the call
    // returns; SIOCETHTOOL with ETHTOOL_GDRVINFO writes the drvinfo too that its caller points to.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), number, &raw mut *request) };
    Ok(Errno::result(done).map(drop)?)
}
