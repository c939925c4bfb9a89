//! The daemons that tell other directors of connections, and the global timeouts.

use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16};

use super::{Persistence, SyncLink};
use crate::InvalidValue;

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// Tells (`IP_VS_STATE_MASTER`).
    Master = 1,
    /// Listens (`IP_VS_STATE_BACKUP`).
    Backup = 2,
}

/// Largest UDP payload in bytes: 65535 less IP and UDP headers.
const MAX_SYNC: u16 = 65507;

/// A sync daemon; what is `None` the kernel chooses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Daemon {
    /// Which.
    pub role: Role,
    /// Over which link it talks.
    pub link: SyncLink,
    /// Which group of directors.
    pub sync_id: u8,
    /// Largest message in bytes.
    pub max_len: Option<SyncLen>,
    /// Where to.
    pub group: Option<McastGroup>,
    /// UDP port.
    pub port: Option<NonZeroU16>,
    /// Hops.
    pub ttl: Option<NonZeroU8>,
}

/// Largest sync message, 1..=65507 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SyncLen(u16);

impl SyncLen {
    /// Bytes.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u32> for SyncLen {
    type Error = InvalidValue;

    fn try_from(bytes: u32) -> Result<Self, InvalidValue> {
        if let Ok(bytes @ 1..=MAX_SYNC) = u16::try_from(bytes) {
            return Ok(Self(bytes));
        }
        let rule = "a sync message has 1 to 65507 bytes";
        Err(InvalidValue::new(&bytes.to_string(), rule))
    }
}

/// A multicast address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct McastGroup(IpAddr);

impl McastGroup {
    /// The address.
    #[must_use]
    pub fn get(self) -> IpAddr {
        self.0
    }
}

impl TryFrom<IpAddr> for McastGroup {
    type Error = InvalidValue;

    fn try_from(address: IpAddr) -> Result<Self, InvalidValue> {
        if address.is_multicast() {
            return Ok(Self(address));
        }
        let rule = "a sync group is a multicast address";
        Err(InvalidValue::new(&address.to_string(), rule))
    }
}

/// Seconds after which idle connections are forgotten; 0 leaves what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timeouts {
    tcp: u32,
    tcp_fin: u32,
    udp: u32,
}

impl Timeouts {
    /// Each 0..=2678400 seconds.
    ///
    /// # Errors
    /// One that is longer.
    pub fn new(tcp: u32, tcp_fin: u32, udp: u32) -> Result<Self, InvalidValue> {
        match [tcp, tcp_fin, udp].iter().find(|s| **s > Persistence::MAX) {
            None => Ok(Self { tcp, tcp_fin, udp }),
            Some(seconds) => {
                let rule = "a timeout is 0 to 2678400 seconds";
                Err(InvalidValue::new(&seconds.to_string(), rule))
            }
        }
    }

    /// tcp, tcpfin and udp, in seconds.
    #[must_use]
    pub fn seconds(self) -> [u32; 3] {
        [self.tcp, self.tcp_fin, self.udp]
    }
}
