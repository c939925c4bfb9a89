//! Virtual services.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use super::{Engine, Scheduler};
use crate::InvalidValue;

/// Transport of a virtual service; the order is that of the protocols' numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// `IPPROTO_TCP`.
    Tcp = 6,
    /// `IPPROTO_UDP`.
    Udp = 17,
    /// `IPPROTO_SCTP`.
    Sctp = 132,
}

impl Protocol {
    /// The protocol's number in an IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The option that names a service of it.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::Tcp => "-t",
            Self::Udp => "-u",
            Self::Sctp => "--sctp-service",
        }
    }

    /// Its name in `/etc/services`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl TryFrom<u32> for Protocol {
    type Error = InvalidValue;

    fn try_from(number: u32) -> Result<Self, InvalidValue> {
        match number {
            6 => Ok(Self::Tcp),
            17 => Ok(Self::Udp),
            132 => Ok(Self::Sctp),
            _ => {
                let rule = "a virtual service speaks tcp (6), udp (17) or sctp (132)";
                Err(InvalidValue::new(&number.to_string(), rule))
            }
        }
    }
}

/// Family of a service that has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What tells one virtual service from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceId {
    /// Packets to an address and port; port 0 is every port.
    Address {
        /// Transport.
        protocol: Protocol,
        /// Virtual address.
        address: IpAddr,
        /// Virtual port.
        port: u16,
    },
    /// Packets that the firewall marked.
    Mark {
        /// The mark.
        mark: NonZeroU32,
        /// Family of those packets.
        family: Family,
    },
}

impl ServiceId {
    /// Family of the packets.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(address),
            Self::Mark { family, .. } => family,
        }
    }

    fn key(self) -> (u32, Family, u8, IpAddr, u16) {
        match self {
            Self::Address {
                protocol,
                address,
                port,
            } => (0, Family::of(address), protocol.number(), address, port),
            Self::Mark { mark, family } => {
                let none = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                (mark.get(), family, 0, none, 0)
            }
        }
    }
}

impl ServiceId {
    /// The order of IPv4 services among themselves: most tables have no others, and a large one
    /// compares millions of times.
    fn short_key(self) -> Option<u64> {
        match self {
            Self::Address {
                protocol,
                address: IpAddr::V4(v4),
                port,
            } => {
                let protocol = u64::from(protocol.number()) << 48;
                Some(protocol | u64::from(v4.to_bits()) << 16 | u64::from(port))
            }
            _ => None,
        }
    }
}

impl Ord for ServiceId {
    /// ipvsadm's: marks last, then family, protocol, address, port. Addresses compare as numbers,
    /// which ipvsadm gets wrong for those that are 2^31 or more apart.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.short_key(), other.short_key()) {
            (Some(own), Some(others)) => own.cmp(&others),
            _ => self.key().cmp(&other.key()),
        }
    }
}

impl PartialOrd for ServiceId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ServiceId {
    /// As ipvsadm's words name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address {
                protocol,
                address,
                port,
            } => {
                write!(f, "{} {}", protocol.option(), Endpoint(*address, *port))
            }
            Self::Mark { mark, family } => match family {
                Family::V4 => write!(f, "-f {mark}"),
                Family::V6 => write!(f, "-f {mark} -6"),
            },
        }
    }
}

/// `a.b.c.d:port` or `[v6]:port`.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint(pub IpAddr, pub u16);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => write!(f, "{v4}:{}", self.1),
            IpAddr::V6(v6) => write!(f, "[{v6}]:{}", self.1),
        }
    }
}

/// Seconds that a client stays with its server, 1..=2678400 (31 days).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Persistence(u32);

impl Persistence {
    /// Longest timeout that ipvsadm lets through, in seconds: 31 days.
    pub const MAX: u32 = 2_678_400;
    /// What `-p` alone means: `IPVS_SVC_PERSISTENT_TIMEOUT`. The manual page says 300.
    pub const DEFAULT: Self = Self(360);

    /// Seconds.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Persistence {
    type Error = InvalidValue;

    fn try_from(seconds: u32) -> Result<Self, InvalidValue> {
        if (1..=Self::MAX).contains(&seconds) {
            return Ok(Self(seconds));
        }
        let rule = "persistence lasts 1 to 2678400 seconds";
        Err(InvalidValue::new(&seconds.to_string(), rule))
    }
}

/// Which clients persistence takes as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Netmask {
    /// Bits of an IPv4 address, in host order; they need not be contiguous.
    V4(u32),
    /// Leading bits of an IPv6 address, 1..=128.
    V6(u8),
}

impl Netmask {
    /// Every client for itself.
    #[must_use]
    pub fn whole(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4(u32::MAX),
            Family::V6 => Self::V6(128),
        }
    }

    /// Family of the clients.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// Leading bits of an IPv6 address.
    ///
    /// # Errors
    /// None, or more than 128.
    pub fn prefix(bits: u32) -> Result<Self, InvalidValue> {
        if let Ok(bits @ 1..=128) = u8::try_from(bits) {
            return Ok(Self::V6(bits));
        }
        let rule = "an IPv6 persistence mask has 1 to 128 bits";
        Err(InvalidValue::new(&bits.to_string(), rule))
    }
}

/// The three bits whose meaning is the scheduler's (`IP_VS_SVC_F_SCHED1` to `3`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SchedFlags(u8);

impl SchedFlags {
    /// The lowest three bits of this: flag-1 is bit 0.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 7)
    }

    /// flag-1 is bit 0.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Names of the three for this scheduler, in order; `sh` and `mh` have no third.
    #[must_use]
    pub fn names(scheduler: &Scheduler) -> &'static [&'static str] {
        match scheduler.as_str() {
            "sh" => &["sh-fallback", "sh-port"],
            "mh" => &["mh-fallback", "mh-port"],
            _ => &["flag-1", "flag-2", "flag-3"],
        }
    }
}

/// Whether a service forgets a client after one packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Scheduling {
    /// Packets of a connection stay together.
    #[default]
    Connections,
    /// Each packet is scheduled for itself.
    Packets,
}

/// Everything that can be said of a virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Service {
    /// Which.
    pub id: ServiceId,
    /// How servers are chosen.
    pub scheduler: Scheduler,
    /// How long clients stay with a server.
    pub persistence: Option<Persistence>,
    /// Which clients count as one.
    pub netmask: Netmask,
    /// One-packet scheduling.
    pub scheduling: Scheduling,
    /// The scheduler's own bits.
    pub flags: SchedFlags,
    /// What besides addresses makes clients one.
    pub engine: Option<Engine>,
}

impl Service {
    /// Checks what the parts say of each other. The kernel does not.
    ///
    /// # Errors
    /// Port 0 without persistence, packets scheduled where there are connections, a mask of the
    /// other family.
    pub fn checked(self) -> Result<Self, ServiceRule> {
        if let ServiceId::Address { port, protocol, .. } = self.id {
            if port == 0 && self.persistence.is_none() {
                return Err(ServiceRule::ZeroPort);
            }
            if self.scheduling == Scheduling::Packets && protocol != Protocol::Udp {
                return Err(ServiceRule::OnePacket);
            }
        }
        if self.netmask.family() != self.id.family() {
            return Err(ServiceRule::MaskFamily);
        }
        Ok(self)
    }
}

/// What the parts of a service may not say of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServiceRule {
    /// Every port, but no memory of the client.
    #[error("port 0 (every port) is only for a persistent service (-p)")]
    ZeroPort,
    /// Packets of a connection may not be spread.
    #[error("one-packet scheduling (-o) is only for UDP and firewall-mark services")]
    OnePacket,
    /// IPv4 mask for IPv6 or the other way round.
    #[error("the persistence mask (-M) is of another address family than the service")]
    MaskFamily,
}
