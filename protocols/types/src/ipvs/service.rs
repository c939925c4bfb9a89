//! Virtual services.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use super::{Engine, Scheduler};
use crate::InvalidValue;

/// Transport protocol of a virtual service, in the order of the protocol numbers.
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
    /// Returns the number in the IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns ipvsadm's option for a service of the protocol.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::Tcp => "-t",
            Self::Udp => "-u",
            Self::Sctp => "--sctp-service",
        }
    }

    /// Returns the name in `/etc/services`.
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
                Err(InvalidValue::new(&number, rule))
            }
        }
    }
}

/// Address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Returns the family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Identity of a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceId {
    /// Packets to an address and port. Port 0 means every port.
    Address {
        /// Transport.
        protocol: Protocol,
        /// Virtual address.
        address: IpAddr,
        /// Virtual port.
        port: u16,
    },
    /// Packets with a firewall mark.
    Mark {
        /// Mark.
        mark: NonZeroU32,
        /// Family of the packets.
        family: Family,
    },
}

impl ServiceId {
    /// Returns the family of the packets.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(address),
            Self::Mark { family, .. } => family,
        }
    }

    /// Returns the transport; `None` for a firewall mark, which has packets of any.
    #[must_use]
    pub fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Address { protocol, .. } => Some(protocol),
            Self::Mark { .. } => None,
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

    /// Key that orders IPv4 services among themselves. Most tables have no others, and sorting a
    /// large one compares millions of times.
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
    /// Orders as ipvsadm does: marks last, then family, protocol, address, port. Addresses compare
    /// as numbers; ipvsadm misorders those that are 2^31 or more apart.
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
    /// Prints the option and value of ipvsadm.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address {
                protocol,
                address,
                port,
            } => {
                write!(f, "{} {}", protocol.option(), AddrPort(*address, *port))
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
pub struct AddrPort(pub IpAddr, pub u16);

impl fmt::Display for AddrPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => write!(f, "{v4}:{}", self.1),
            IpAddr::V6(v6) => write!(f, "[{v6}]:{}", self.1),
        }
    }
}

/// Persistence timeout in seconds, 1 to 2678400 (31 days).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Persistence(u32);

impl Persistence {
    /// Maximum timeout that ipvsadm accepts, in seconds: 31 days.
    pub const MAX: u32 = 2_678_400;
    /// Timeout of `-p` without a value: `IPVS_SVC_PERSISTENT_TIMEOUT`. The manual page has 300.
    pub const DEFAULT: Self = Self(360);

    /// Returns the timeout in seconds.
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
        Err(InvalidValue::new(&seconds, rule))
    }
}

/// Clients that persistence treats as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Netmask {
    /// Bits of an IPv4 address in host order, not necessarily contiguous.
    V4(u32),
    /// Prefix length of an IPv6 address, 1 to 128.
    V6(u8),
}

impl Netmask {
    /// Mask that distinguishes all clients.
    #[must_use]
    pub fn whole(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4(u32::MAX),
            Family::V6 => Self::V6(128),
        }
    }

    /// Returns the family of the clients.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// Checks the prefix length of an IPv6 address.
    ///
    /// # Errors
    /// 0, or more than 128.
    pub fn prefix(bits: u32) -> Result<Self, InvalidValue> {
        if let Ok(bits @ 1..=128) = u8::try_from(bits) {
            return Ok(Self::V6(bits));
        }
        let rule = "an IPv6 persistence mask has 1 to 128 bits";
        Err(InvalidValue::new(&bits, rule))
    }
}

/// Three bits that the scheduler interprets (`IP_VS_SVC_F_SCHED1` to `3`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SchedFlags(u8);

impl SchedFlags {
    /// Takes the lowest three bits; flag-1 is bit 0.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 7)
    }

    /// Returns the bits; flag-1 is bit 0.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Names of the bits, which every scheduler has.
    pub const NUMBERED: [&str; 3] = ["flag-1", "flag-2", "flag-3"];

    /// Returns ipvsadm's names of the bits for a scheduler; `sh` and `mh` have none for the third.
    #[must_use]
    pub fn names(scheduler: &Scheduler) -> &'static [&'static str] {
        match scheduler.as_str() {
            "sh" => &["sh-fallback", "sh-port"],
            "mh" => &["mh-fallback", "mh-port"],
            _ => &Self::NUMBERED,
        }
    }
}

/// Unit of scheduling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Scheduling {
    /// All packets of a connection go to one server.
    #[default]
    Connections,
    /// Each packet is scheduled separately.
    Packets,
}

/// Virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Service {
    /// Identity.
    pub id: ServiceId,
    /// Scheduler.
    pub scheduler: Scheduler,
    /// Persistence timeout.
    pub persistence: Option<Persistence>,
    /// Granularity of persistence.
    pub netmask: Netmask,
    /// Connection or one-packet scheduling.
    pub scheduling: Scheduling,
    /// Flags of the scheduler.
    pub flags: SchedFlags,
    /// Persistence engine, which groups clients by more than their addresses.
    pub engine: Option<Engine>,
}

impl Service {
    /// Checks the fields against each other, which the kernel doesn't do.
    ///
    /// # Errors
    /// Port 0 without persistence, one-packet scheduling of a protocol with connections, a mask of
    /// the other family.
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

/// Violated rule of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServiceRule {
    /// Port 0 without persistence.
    #[error("port 0 (every port) is only for a persistent service (-p)")]
    ZeroPort,
    /// One-packet scheduling of a protocol with connections.
    #[error("one-packet scheduling (-o) is only for UDP and firewall-mark services")]
    OnePacket,
    /// Mask of the other family.
    #[error("the persistence mask (-M) is of another address family than the service")]
    MaskFamily,
}
