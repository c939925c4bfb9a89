//! Real servers.

use std::net::IpAddr;
use std::num::NonZeroU16;

use super::{AddrPort, Family, ServiceId};
use crate::InvalidValue;

/// Identity of a server within its service. The order is ipvsadm's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    /// Address.
    pub address: IpAddr,
    /// Port; 0: the destination port of the client's packet.
    pub port: u16,
}

impl std::fmt::Display for ServerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        AddrPort(self.address, self.port).fmt(f)
    }
}

/// Forwarding method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    /// Destination NAT.
    Masquerade,
    /// The server is this machine. The kernel detects that itself; old kernels report it.
    Local,
    /// Encapsulated in another packet.
    Tunnel(Tunnel),
    /// Unchanged, to the server's link-layer address.
    Route,
}

impl Forward {
    /// `IP_VS_CONN_F_*`: 0 masquerade, 1 local, 2 tunnel, 3 route.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Masquerade => 0,
            Self::Local => 1,
            Self::Tunnel(_) => 2,
            Self::Route => 3,
        }
    }

    /// Returns the method with this number, except for a tunnel.
    ///
    /// # Errors
    /// Another number.
    pub fn plain(number: u32) -> Result<Self, InvalidValue> {
        match number {
            0 => Ok(Self::Masquerade),
            1 => Ok(Self::Local),
            3 => Ok(Self::Route),
            _ => {
                let rule = "a way of forwarding is 0, 1 or 3, or 2 with a tunnel";
                Err(InvalidValue::new(&number, rule))
            }
        }
    }
}

/// Checksum of the outer packet, with the numbers `IP_VS_TUNNEL_ENCAP_FLAG_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Checksum {
    /// None.
    No = 0,
    /// Full.
    Full = 1,
    /// Remote checksum offload; GUE only.
    Remote = 2,
}

/// Encapsulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port on which the server decapsulates.
        port: NonZeroU16,
        /// Checksum of the outer packet.
        checksum: Checksum,
    },
    /// GRE.
    Gre {
        /// Checksum of the outer packet; the grammar never produces [`Checksum::Remote`].
        checksum: Checksum,
    },
}

impl Tunnel {
    /// Returns type (`IP_VS_CONN_F_TUNNEL_TYPE_*`), UDP port or 0, and checksum flags.
    #[must_use]
    pub fn numbers(self) -> (u8, u16, u8) {
        match self {
            Self::Ipip => (0, 0, 0),
            Self::Gue { port, checksum } => (1, port.get(), checksum as u8),
            Self::Gre { checksum } => (2, 0, checksum as u8),
        }
    }
}

impl TryFrom<(u32, u32, u32)> for Tunnel {
    type Error = InvalidValue;

    /// Converts type, port and checksum flags.
    fn try_from((kind, port, checksum): (u32, u32, u32)) -> Result<Self, InvalidValue> {
        let checksum = match checksum {
            0 => Checksum::No,
            1 => Checksum::Full,
            2 => Checksum::Remote,
            _ => {
                let rule = "a tunnel's checksum is 0, 1 or 2";
                return Err(InvalidValue::new(&checksum, rule));
            }
        };
        let udp_port = u16::try_from(port).ok().and_then(NonZeroU16::new);
        match (kind, udp_port) {
            (0, _) => Ok(Self::Ipip),
            (1, Some(port)) => Ok(Self::Gue { port, checksum }),
            (2, _) => Ok(Self::Gre { checksum }),
            _ => {
                let rule = "a tunnel is 0 (ipip), 1 (gue, with a port) or 2 (gre)";
                Err(InvalidValue::new(&format!("{kind}, port {port}"), rule))
            }
        }
    }
}

/// Weight or connection threshold: the kernel stores 31 bits, 0 to 2147483647.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NonNegativeInt(u32);

impl NonNegativeInt {
    /// Default weight of a server.
    pub const ONE: Self = Self(1);

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for NonNegativeInt {
    type Error = InvalidValue;

    fn try_from(number: u32) -> Result<Self, InvalidValue> {
        if i32::try_from(number).is_ok() {
            return Ok(Self(number));
        }
        let rule = "a weight or threshold is 0 to 2147483647";
        Err(InvalidValue::new(&number, rule))
    }
}

/// Real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Server {
    /// Identity.
    pub id: ServerId,
    /// Forwarding method.
    pub forward: Forward,
    /// Weight.
    pub weight: NonNegativeInt,
    /// Number of connections from which on the server gets no new ones; 0: no limit.
    pub upper: NonNegativeInt,
    /// Number of connections below which it gets new ones again; 0: three quarters of `upper`.
    pub lower: NonNegativeInt,
}

impl Server {
    /// Returns a server with ipvsadm's defaults: weight 1, no thresholds.
    #[must_use]
    pub fn new(id: ServerId, forward: Forward) -> Self {
        Self {
            id,
            forward,
            weight: NonNegativeInt::ONE,
            upper: NonNegativeInt::default(),
            lower: NonNegativeInt::default(),
        }
    }

    /// Returns the server with the service's port if the forwarding method can't change ports: all
    /// but NAT, except for firewall marks. ipvsadm sets it, but the kernel accepts any port.
    #[must_use]
    pub fn at_port_of(mut self, service: ServiceId) -> Self {
        let kept = matches!(self.forward, Forward::Masquerade | Forward::Local);
        if let (false, ServiceId::Address { port, .. }) = (kept, service) {
            self.id.port = port;
        }
        self
    }

    /// Checks the server against its service.
    ///
    /// # Errors
    /// Another family than the service's without a tunnel; a lower threshold above the upper one.
    pub fn of(self, service: ServiceId) -> Result<Self, ServerRule> {
        let same = Family::of(self.id.address) == service.family();
        if !same && !matches!(self.forward, Forward::Tunnel(_)) {
            return Err(ServerRule::Family);
        }
        if self.lower > self.upper {
            return Err(ServerRule::Thresholds);
        }
        Ok(self)
    }
}

/// Violated rule of a server and its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServerRule {
    /// NAT and routing don't change the family.
    #[error("a server (-r) of another address family than its service needs a tunnel (-i)")]
    Family,
    /// The kernel returns ERANGE.
    #[error("the lower threshold (-y) is above the upper one (-x)")]
    Thresholds,
}
