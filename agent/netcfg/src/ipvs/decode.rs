//! Domain types from replies.

use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};

use patchbay_types::InvalidValue;
use patchbay_types::ipvs::{
    Daemon, Detail, Engine, Family, ListedService, McastGroup, Netmask, Persistence, Protocol,
    Role, SchedFlags, Scheduler, Scheduling, Service, ServiceId, Stats, SyncLen, SyncLink,
    Timeouts,
};

use super::consts::{SVC_ONEPACKET, SVC_PERSISTENT, SVC_SCHED_SHIFT, daemon, info, svc, top};
use crate::inet::{AF_INET, AF_INET6, read_ip};
use patchbay_netlink::genl::HEADER;
use patchbay_netlink::{AttrTable, Attrs, Error, read_be16, read_u8, read_u16, read_u32, read_u64};

/// The largest attribute type in any nest of IPVS is 15 (`IPVS_DEST_ATTR_TUN_FLAGS`).
pub(super) type Nest<'a> = AttrTable<'a, 16>;

/// Returns the value of a mandatory attribute.
pub(super) fn require<'a>(attrs: &Nest<'a>, kind: u16) -> Result<&'a [u8], Error> {
    let missing = || Error::Malformed("an attribute is missing");
    attrs.find(kind).ok_or_else(missing)
}

/// Reads an integer; old kernels don't send all of them.
pub(super) fn u32_or_zero(attrs: &Nest<'_>, kind: u16) -> Result<u32, Error> {
    Ok(attrs.find(kind).map(read_u32).transpose()?.unwrap_or(0))
}

fn attributes(payload: &[u8]) -> Result<Nest<'_>, Error> {
    Nest::of(Attrs::after(HEADER, payload)?)
}

/// Returns the attributes of a nest.
pub(super) fn nest(payload: &[u8], kind: u16) -> Result<Nest<'_>, Error> {
    Nest::of(Attrs::after(0, require(&attributes(payload)?, kind)?)?)
}

pub(super) fn valid<T>(value: Result<T, InvalidValue>) -> Result<T, Error> {
    value.map_err(|_| Error::Malformed("IPVS reports an unknown value"))
}

fn text(value: &[u8]) -> Result<&str, Error> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).map_err(|_| Error::Malformed("a name is not UTF-8"))
}

pub(super) fn family(number: u16) -> Result<Family, Error> {
    match u8::try_from(number) {
        Ok(AF_INET) => Ok(Family::V4),
        Ok(AF_INET6) => Ok(Family::V6),
        _ => Err(Error::Malformed("IPVS reports an unknown address family")),
    }
}

/// Reads a `union nf_inet_addr`: 16 bytes, of which IPv4 uses the first four.
pub(super) fn address(value: &[u8], family: Family) -> Result<IpAddr, Error> {
    let size = match family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    read_ip(value.get(..size).unwrap_or_default())
}

fn service_id(attrs: &Nest<'_>) -> Result<ServiceId, Error> {
    let family = family(read_u16(require(attrs, svc::AF)?)?)?;
    if let Some(mark) = NonZeroU32::new(u32_or_zero(attrs, svc::FWMARK)?) {
        return Ok(ServiceId::Mark { mark, family });
    }
    let protocol = read_u16(require(attrs, svc::PROTOCOL)?)?;
    Ok(ServiceId::Address {
        protocol: valid(Protocol::try_from(u32::from(protocol)))?,
        address: address(require(attrs, svc::ADDR)?, family)?,
        port: read_be16(require(attrs, svc::PORT)?)?,
    })
}

/// Reads a service, without its servers.
pub(super) fn service(payload: &[u8], detail: Detail) -> Result<ListedService, Error> {
    let attrs = nest(payload, top::SERVICE)?;
    let id = service_id(&attrs)?;
    let flags_and_mask = require(&attrs, svc::FLAGS)?;
    let flags = read_u32(flags_and_mask.get(..4).unwrap_or_default())?;
    let persistence = match flags & SVC_PERSISTENT {
        0 => None,
        // Other programs can set a timeout above ipvsadm's maximum.
        _ => Persistence::try_from(read_u32(require(&attrs, svc::TIMEOUT)?)?).ok(),
    };
    let mask = require(&attrs, svc::NETMASK)?;
    let netmask = match id.family() {
        Family::V4 => Netmask::V4(u32::from_be(read_u32(mask)?)),
        Family::V6 => valid(Netmask::prefix(read_u32(mask)?))?,
    };
    let engine = attrs.find(svc::PE_NAME).map(text).transpose()?;
    let engine = engine.filter(|name| !name.is_empty());
    let sched_bits = u8::try_from(flags >> SVC_SCHED_SHIFT & 7).unwrap_or_default();
    let service = Service {
        id,
        scheduler: valid(text(require(&attrs, svc::SCHED_NAME)?)?.parse::<Scheduler>())?,
        persistence,
        netmask,
        scheduling: match flags & SVC_ONEPACKET {
            0 => Scheduling::Connections,
            _ => Scheduling::Packets,
        },
        flags: SchedFlags::from_bits(sched_bits),
        engine: engine
            .map(|name| valid(name.parse::<Engine>()))
            .transpose()?,
    };
    Ok(ListedService {
        service,
        stats: stats(&attrs, svc::STATS64, svc::STATS, detail)?,
        servers: Vec::new(),
    })
}

/// Reads the counters of 64 bits (Linux 4.1 and later), or those of 32 bits, if the detail has them: half of
/// the attributes of a rule are counters.
pub(super) fn stats(
    attrs: &Nest<'_>,
    wide: u16,
    narrow: u16,
    detail: Detail,
) -> Result<Stats, Error> {
    if detail != Detail::Full {
        return Ok(Stats::default());
    }
    let nest = match attrs.find(wide) {
        Some(nest) => Some(nest),
        None => attrs.find(narrow),
    };
    let nest = Attrs::after(0, nest.unwrap_or_default())?;
    let mut stats = Stats::default();
    for attribute in nest {
        let (kind, value) = attribute?;
        let slot = match kind {
            1..=5 => &mut stats.counters[usize::from(kind) - 1],
            6..=10 => &mut stats.rates[usize::from(kind) - 6],
            _ => continue,
        };
        *slot = match value.len() {
            8 => read_u64(value)?,
            _ => read_u32(value)?.into(),
        };
    }
    Ok(stats)
}

/// Reads the version and the size of the connection table.
pub(super) fn info(payload: &[u8]) -> Result<(u32, u32), Error> {
    let attrs = attributes(payload)?;
    let version = u32_or_zero(&attrs, info::VERSION)?;
    Ok((version, u32_or_zero(&attrs, info::CONN_TAB_SIZE)?))
}

/// Reads the global timeouts.
pub(super) fn timeouts(payload: &[u8]) -> Result<Timeouts, Error> {
    let attrs = attributes(payload)?;
    // Other programs can set a timeout above ipvsadm's maximum.
    let seconds = |kind| Ok::<_, Error>(u32_or_zero(&attrs, kind)?.min(Persistence::MAX));
    valid(Timeouts::new(
        seconds(top::TIMEOUT_TCP)?,
        seconds(top::TIMEOUT_TCP_FIN)?,
        seconds(top::TIMEOUT_UDP)?,
    ))
}

/// Reads a sync daemon.
pub(super) fn daemon(payload: &[u8]) -> Result<Daemon, Error> {
    let attrs = nest(payload, top::DAEMON)?;
    let number16 = |kind| attrs.find(kind).map(read_u16).transpose();
    let group = attrs.find(daemon::MCAST_GROUP);
    let group = group.or(attrs.find(daemon::MCAST_GROUP6));
    let group = group.map(read_ip).transpose()?;
    let ttl = attrs.find(daemon::MCAST_TTL).map(read_u8).transpose()?;
    let max_len = number16(daemon::SYNC_MAXLEN)?.filter(|length| *length != 0);
    let sync_id = read_u32(require(&attrs, daemon::SYNC_ID)?)?;
    Ok(Daemon {
        role: match read_u32(require(&attrs, daemon::STATE)?)? {
            1 => Role::Master,
            2 => Role::Backup,
            _ => return Err(Error::Malformed("a daemon is neither master nor backup")),
        },
        link: valid(text(require(&attrs, daemon::MCAST_IFN)?)?.parse::<SyncLink>())?,
        sync_id: u8::try_from(sync_id).map_err(|_| Error::Malformed("a sync id is too large"))?,
        max_len: max_len
            .map(|n| valid(SyncLen::try_from(u32::from(n))))
            .transpose()?,
        group: group
            .map(|ip| valid(McastGroup::try_from(ip)))
            .transpose()?,
        port: number16(daemon::MCAST_PORT)?.and_then(NonZeroU16::new),
        ttl: ttl.and_then(NonZeroU8::new),
    })
}
