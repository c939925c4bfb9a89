//! Sync daemons, which copy connections between directors, and the global timeouts.

use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16};

use super::{Persistence, SyncLink};
use crate::InvalidValue;

/// Role of a sync daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// Sends (`IP_VS_STATE_MASTER`).
    Master = 1,
    /// Receives (`IP_VS_STATE_BACKUP`).
    Backup = 2,
}

impl Role {
    /// Returns ipvsadm's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
        }
    }
}

/// Maximum UDP payload in bytes: 65535 minus IP and UDP headers.
const MAX_SYNC: u16 = 65507;

/// Sync daemon. The kernel chooses the fields that are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Daemon {
    /// Role.
    pub role: Role,
    /// Interface of the multicast traffic.
    pub link: SyncLink,
    /// Number of the group of directors.
    pub sync_id: u8,
    /// Maximum message size in bytes.
    pub max_len: Option<SyncLen>,
    /// Multicast group.
    pub group: Option<McastGroup>,
    /// UDP port.
    pub port: Option<NonZeroU16>,
    /// Time to live of the packets, in hops.
    pub ttl: Option<NonZeroU8>,
}

impl Daemon {
    /// Returns whether a running daemon has every field that is given here.
    #[must_use]
    pub fn is_met_by(&self, running: &Self) -> bool {
        let Self {
            role,
            link,
            sync_id,
            max_len,
            group,
            port,
            ttl,
        } = self;
        (role, link, sync_id) == (&running.role, &running.link, &running.sync_id)
            && max_len.is_none_or(|max_len| running.max_len == Some(max_len))
            && group.is_none_or(|group| running.group == Some(group))
            && port.is_none_or(|port| running.port == Some(port))
            && ttl.is_none_or(|ttl| running.ttl == Some(ttl))
    }
}

/// Maximum size of a sync message, 1 to 65507 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SyncLen(u16);

impl SyncLen {
    /// Returns the size in bytes.
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
        Err(InvalidValue::new(&bytes, rule))
    }
}

/// Multicast address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct McastGroup(IpAddr);

impl McastGroup {
    /// Returns the address.
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
        Err(InvalidValue::new(&address, rule))
    }
}

/// Timeouts of idle connections in seconds; 0 leaves the current value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timeouts([u32; 3]);

impl Timeouts {
    /// Checks the timeouts, 0 to 2678400 seconds each.
    ///
    /// # Errors
    /// A longer timeout.
    pub fn new(tcp: u32, tcp_fin: u32, udp: u32) -> Result<Self, InvalidValue> {
        let seconds = [tcp, tcp_fin, udp];
        match seconds.iter().find(|s| **s > Persistence::MAX) {
            None => Ok(Self(seconds)),
            Some(s) => Err(InvalidValue::new(s, "a timeout is 0 to 2678400 seconds")),
        }
    }

    /// Returns these timeouts with those of an earlier request where they leave the current value.
    #[must_use]
    pub fn after(self, earlier: Option<Self>) -> Self {
        let Self(earlier) = earlier.unwrap_or(self);
        let mut merged = self.0;
        for (seconds, earlier) in merged.iter_mut().zip(earlier) {
            if *seconds == 0 {
                *seconds = earlier;
            }
        }
        Self(merged)
    }

    /// Returns tcp, tcpfin and udp, in seconds.
    #[must_use]
    pub fn seconds(self) -> [u32; 3] {
        self.0
    }
}
