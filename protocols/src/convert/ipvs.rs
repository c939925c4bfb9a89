//! IPVS to wire and back: both ends check alike, since neither trusts the other.

mod change;
mod listed;

use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};

use super::{ip, ip_bytes};
use crate::ipvs::{
    Count31, Daemon, Family, Forward, McastGroup, Netmask, Persistence, Protocol, Role, SchedFlags,
    Scheduling, Server, ServerId, Service, ServiceId, SyncLen, Timeouts, Tunnel,
};
use crate::model::{BadValue, Invalid};
use crate::wire::ipvs as wire;

pub use change::{change_request, mode, mode_number};
pub use listed::{TableItem, connections, status, table_item};

fn port(number: u32) -> Result<u16, BadValue> {
    u16::try_from(number).map_err(|_| BadValue::new(&number.to_string(), "a port is 0 to 65535"))
}

fn missing(field: &str) -> Invalid {
    BadValue::new("", "it is missing").at(field)
}

impl From<ServiceId> for wire::ServiceId {
    fn from(id: ServiceId) -> Self {
        match id {
            ServiceId::Address {
                protocol,
                address,
                port,
            } => Self {
                protocol: protocol.number().into(),
                address: ip_bytes(address),
                port: port.into(),
                ..Self::default()
            },
            ServiceId::Mark { mark, family } => Self {
                mark: mark.get(),
                ipv6: family == Family::V6,
                ..Self::default()
            },
        }
    }
}

impl TryFrom<&wire::ServiceId> for ServiceId {
    type Error = Invalid;

    fn try_from(wire: &wire::ServiceId) -> Result<Self, Invalid> {
        let wire::ServiceId {
            protocol,
            address,
            port: number,
            mark,
            ipv6,
            special_fields: _,
        } = wire;
        if let Some(mark) = NonZeroU32::new(*mark) {
            let family = if *ipv6 { Family::V6 } else { Family::V4 };
            return Ok(Self::Mark { mark, family });
        }
        Ok(Self::Address {
            protocol: Protocol::try_from(*protocol).map_err(|bad| bad.at("service.protocol"))?,
            address: ip(address).map_err(|bad| bad.at("service.address"))?,
            port: port(*number).map_err(|bad| bad.at("service.port"))?,
        })
    }
}

impl From<&Service> for wire::Service {
    fn from(service: &Service) -> Self {
        let Service {
            id,
            scheduler,
            persistence,
            netmask,
            scheduling,
            flags,
            engine,
        } = service;
        Self {
            id: Some((*id).into()).into(),
            scheduler: scheduler.to_string(),
            persistence: persistence.map_or(0, Persistence::get),
            netmask: match netmask {
                Netmask::V4(bits) => *bits,
                Netmask::V6(bits) => u32::from(*bits),
            },
            one_packet: *scheduling == Scheduling::Packets,
            flags: flags.bits().into(),
            engine: engine.as_ref().map(ToString::to_string).unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl TryFrom<&wire::Service> for Service {
    type Error = Invalid;

    fn try_from(wire: &wire::Service) -> Result<Self, Invalid> {
        let id = ServiceId::try_from(wire.id.as_ref().ok_or_else(|| missing("service"))?)?;
        let some = |text: &str| (!text.is_empty()).then(|| text.parse());
        let engine = some(&wire.engine).transpose();
        let persistence = match wire.persistence {
            0 => Ok(None),
            seconds => Persistence::try_from(seconds).map(Some),
        };
        let netmask = match id.family() {
            Family::V4 => Ok(Netmask::V4(wire.netmask)),
            Family::V6 => Netmask::prefix(wire.netmask),
        };
        let flags = u8::try_from(wire.flags).ok().filter(|flags| *flags < 8);
        let flags = flags.ok_or_else(|| {
            BadValue::new(&wire.flags.to_string(), "a scheduler has three flags").at("flags")
        })?;
        Ok(Self {
            id,
            scheduler: wire
                .scheduler
                .parse()
                .map_err(|bad: BadValue| bad.at("scheduler"))?,
            persistence: persistence.map_err(|bad| bad.at("persistence"))?,
            netmask: netmask.map_err(|bad| bad.at("netmask"))?,
            scheduling: if wire.one_packet {
                Scheduling::Packets
            } else {
                Scheduling::Connections
            },
            flags: SchedFlags::from_bits(flags),
            engine: engine.map_err(|bad: BadValue| bad.at("engine"))?,
        })
    }
}

impl From<ServerId> for wire::ServerId {
    fn from(id: ServerId) -> Self {
        Self {
            address: ip_bytes(id.address),
            port: id.port.into(),
            ..Self::default()
        }
    }
}

impl TryFrom<&wire::ServerId> for ServerId {
    type Error = Invalid;

    fn try_from(wire: &wire::ServerId) -> Result<Self, Invalid> {
        Ok(Self {
            address: ip(&wire.address).map_err(|bad| bad.at("server.address"))?,
            port: port(wire.port).map_err(|bad| bad.at("server.port"))?,
        })
    }
}

impl From<&Server> for wire::Server {
    fn from(server: &Server) -> Self {
        let mut wire = Self {
            id: Some(server.id.into()).into(),
            weight: server.weight.get(),
            upper: server.upper.get(),
            lower: server.lower.get(),
            forward: server.forward.number(),
            ..Self::default()
        };
        if let Forward::Tunnel(tunnel) = server.forward {
            let (kind, port, checksum) = tunnel.numbers();
            wire.tunnel = kind.into();
            wire.tunnel_port = port.into();
            wire.checksum = checksum.into();
        }
        wire
    }
}

impl TryFrom<&wire::Server> for Server {
    type Error = Invalid;

    fn try_from(wire: &wire::Server) -> Result<Self, Invalid> {
        let id = ServerId::try_from(wire.id.as_ref().ok_or_else(|| missing("server"))?)?;
        let count = |number: u32, field: &str| {
            Count31::try_from(number).map_err(|bad: BadValue| bad.at(field))
        };
        let tunnel = Tunnel::try_from((wire.tunnel, wire.tunnel_port, wire.checksum));
        let forward = match wire.forward {
            2 => tunnel.map(Forward::Tunnel),
            number => Forward::plain(number),
        };
        Ok(Self {
            id,
            forward: forward.map_err(|bad| bad.at("forward"))?,
            weight: count(wire.weight, "weight")?,
            upper: count(wire.upper, "upper")?,
            lower: count(wire.lower, "lower")?,
        })
    }
}

impl From<Timeouts> for wire::Timeouts {
    fn from(timeouts: Timeouts) -> Self {
        let [tcp, tcp_fin, udp] = timeouts.seconds();
        Self {
            tcp,
            tcp_fin,
            udp,
            ..Self::default()
        }
    }
}

impl TryFrom<&wire::Timeouts> for Timeouts {
    type Error = Invalid;

    fn try_from(wire: &wire::Timeouts) -> Result<Self, Invalid> {
        Self::new(wire.tcp, wire.tcp_fin, wire.udp).map_err(|bad| bad.at("timeouts"))
    }
}

impl From<&Daemon> for wire::Daemon {
    fn from(daemon: &Daemon) -> Self {
        Self {
            role: daemon.role as u32,
            link: daemon.link.to_string(),
            sync_id: daemon.sync_id.into(),
            max_len: daemon.max_len.map_or(0, |length| length.get().into()),
            group: daemon
                .group
                .map(|group| ip_bytes(group.get()))
                .unwrap_or_default(),
            port: daemon.port.map_or(0, |port| port.get().into()),
            ttl: daemon.ttl.map_or(0, |ttl| ttl.get().into()),
            ..Self::default()
        }
    }
}

fn role(number: u32) -> Result<Role, Invalid> {
    match number {
        1 => Ok(Role::Master),
        2 => Ok(Role::Backup),
        _ => {
            let rule = "a sync daemon is a master (1) or a backup (2)";
            Err(BadValue::new(&number.to_string(), rule).at("role"))
        }
    }
}

fn byte(number: u32, field: &str) -> Result<u8, Invalid> {
    let rule = "it is 0 to 255";
    u8::try_from(number).map_err(|_| BadValue::new(&number.to_string(), rule).at(field))
}

impl TryFrom<&wire::Daemon> for Daemon {
    type Error = Invalid;

    fn try_from(wire: &wire::Daemon) -> Result<Self, Invalid> {
        let max_len = (wire.max_len != 0).then(|| SyncLen::try_from(wire.max_len));
        let group = (!wire.group.is_empty())
            .then(|| ip(&wire.group).and_then(McastGroup::try_from))
            .transpose();
        Ok(Self {
            role: role(wire.role)?,
            link: wire.link.parse().map_err(|bad: BadValue| bad.at("link"))?,
            sync_id: byte(wire.sync_id, "sync_id")?,
            max_len: max_len.transpose().map_err(|bad| bad.at("max_len"))?,
            group: group.map_err(|bad| bad.at("group"))?,
            port: NonZeroU16::new(port(wire.port).map_err(|bad| bad.at("port"))?),
            ttl: NonZeroU8::new(byte(wire.ttl, "ttl")?),
        })
    }
}

#[cfg(test)]
mod tests;
