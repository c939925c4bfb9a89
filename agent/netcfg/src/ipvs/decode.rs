//! Attributes to domain types.

use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};

use patchbay_types::InvalidValue;
use patchbay_types::ipvs::{
    Daemon, Engine, Family, Forward, ListedServer, ListedService, McastGroup, Netmask,
    NonNegativeInt, Persistence, Protocol, Role, SchedFlags, Scheduler, Scheduling, Server,
    ServerId, Service, ServiceId, Stats, SyncLen, SyncLink, Timeouts, Tunnel,
};

use super::consts::{
    AF_INET, AF_INET6, FWD_MASK, SVC_ONEPACKET, SVC_PERSISTENT, SVC_SCHED_SHIFT, daemon, dest,
    info, svc, top,
};
use patchbay_netlink::genl::HEADER;
use patchbay_netlink::{AttrTable, Attrs, Error, read_be16, read_u8, read_u16, read_u32, read_u64};

/// No nest of IPVS has attributes beyond this (`IPVS_DEST_ATTR_TUN_FLAGS`).
type Nest<'a> = AttrTable<'a, 16>;

/// An attribute without which nothing can be said.
fn need<'a>(attrs: &Nest<'a>, kind: u16) -> Result<&'a [u8], Error> {
    let missing = || Error::Malformed("an attribute is missing");
    attrs.find(kind).ok_or_else(missing)
}

/// A number that an old kernel does not tell.
fn u32_or_zero(attrs: &Nest<'_>, kind: u16) -> Result<u32, Error> {
    Ok(attrs.find(kind).map(read_u32).transpose()?.unwrap_or(0))
}

/// What stands behind the header of an answer.
fn answer(payload: &[u8]) -> Result<Nest<'_>, Error> {
    Nest::of(Attrs::after(HEADER, payload)?)
}

/// The nest in an answer.
fn nest(payload: &[u8], kind: u16) -> Result<Nest<'_>, Error> {
    Nest::of(Attrs::after(0, need(&answer(payload)?, kind)?)?)
}

fn unknown<T>(read: Result<T, InvalidValue>) -> Result<T, Error> {
    read.map_err(|_| Error::Malformed("a value is none that IPVS has"))
}

fn text(value: &[u8]) -> Result<&str, Error> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).map_err(|_| Error::Malformed("a name is no text"))
}

fn family(number: u16) -> Result<Family, Error> {
    match number {
        AF_INET => Ok(Family::V4),
        AF_INET6 => Ok(Family::V6),
        _ => Err(Error::Malformed("an address family is none that IPVS has")),
    }
}

fn address(value: &[u8], family: Family) -> Result<IpAddr, Error> {
    let short = || Error::Malformed("an address is too short");
    match family {
        Family::V4 => value
            .first_chunk::<4>()
            .map(|octets| IpAddr::from(*octets))
            .ok_or_else(short),
        Family::V6 => value
            .first_chunk::<16>()
            .map(|octets| Ipv6Addr::from(*octets).into())
            .ok_or_else(short),
    }
}

fn service_id(attrs: &Nest<'_>) -> Result<ServiceId, Error> {
    let family = family(read_u16(need(attrs, svc::AF)?)?)?;
    if let Some(mark) = NonZeroU32::new(u32_or_zero(attrs, svc::FWMARK)?) {
        return Ok(ServiceId::Mark { mark, family });
    }
    let protocol = read_u16(need(attrs, svc::PROTOCOL)?)?;
    Ok(ServiceId::Address {
        protocol: unknown(Protocol::try_from(u32::from(protocol)))?,
        address: address(need(attrs, svc::ADDR)?, family)?,
        port: read_be16(need(attrs, svc::PORT)?)?,
    })
}

/// One service of an answer; its servers are another question.
pub(super) fn service(payload: &[u8]) -> Result<ListedService, Error> {
    let attrs = nest(payload, top::SERVICE)?;
    let id = service_id(&attrs)?;
    let words = need(&attrs, svc::FLAGS)?;
    let flags = read_u32(words.get(..4).unwrap_or_default())?;
    let persistence = match flags & SVC_PERSISTENT {
        0 => None,
        // Other programs may have set more than ipvsadm allows.
        _ => Persistence::try_from(read_u32(need(&attrs, svc::TIMEOUT)?)?).ok(),
    };
    let mask = need(&attrs, svc::NETMASK)?;
    let netmask = match id.family() {
        Family::V4 => Netmask::V4(u32::from_be(read_u32(mask)?)),
        Family::V6 => unknown(Netmask::prefix(read_u32(mask)?))?,
    };
    let engine = attrs.find(svc::PE_NAME).map(text).transpose()?;
    let engine = engine.filter(|name| !name.is_empty());
    let sched_bits = u8::try_from(flags >> SVC_SCHED_SHIFT & 7).unwrap_or_default();
    let service = Service {
        id,
        scheduler: unknown(text(need(&attrs, svc::SCHED_NAME)?)?.parse::<Scheduler>())?,
        persistence,
        netmask,
        scheduling: match flags & SVC_ONEPACKET {
            0 => Scheduling::Connections,
            _ => Scheduling::Packets,
        },
        flags: SchedFlags::from_bits(sched_bits),
        engine: engine
            .map(|name| unknown(name.parse::<Engine>()))
            .transpose()?,
    };
    Ok(ListedService {
        service,
        stats: stats(&attrs, svc::STATS64, svc::STATS)?,
        servers: Vec::new(),
    })
}

/// One server of an answer. A kernel before 3.18 does not tell its family: it is the service's.
pub(super) fn server(payload: &[u8], of: Family) -> Result<ListedServer, Error> {
    let attrs = nest(payload, top::DEST)?;
    let family = match attrs.find(dest::ADDR_FAMILY).map(read_u16).transpose()? {
        Some(number) if number != 0 => family(number)?,
        _ => of,
    };
    let count = |kind| unknown(NonNegativeInt::try_from(u32_or_zero(&attrs, kind)?));
    let forward = match read_u32(need(&attrs, dest::FWD_METHOD)?)? & FWD_MASK {
        2 => Forward::Tunnel(tunnel(&attrs)?),
        number => unknown(Forward::plain(number))?,
    };
    let server = Server {
        id: ServerId {
            address: address(need(&attrs, dest::ADDR)?, family)?,
            port: read_be16(need(&attrs, dest::PORT)?)?,
        },
        forward,
        weight: count(dest::WEIGHT)?,
        upper: count(dest::U_THRESH)?,
        lower: count(dest::L_THRESH)?,
    };
    Ok(ListedServer {
        server,
        active: u32_or_zero(&attrs, dest::ACTIVE_CONNS)?,
        inactive: u32_or_zero(&attrs, dest::INACT_CONNS)?,
        persistent: u32_or_zero(&attrs, dest::PERSIST_CONNS)?,
        stats: stats(&attrs, dest::STATS64, dest::STATS)?,
    })
}

fn tunnel(attrs: &Nest<'_>) -> Result<Tunnel, Error> {
    let kind = attrs.find(dest::TUN_TYPE).map(read_u8).transpose()?;
    let port = attrs.find(dest::TUN_PORT).map(read_be16).transpose()?;
    let checksum = attrs.find(dest::TUN_FLAGS).map(read_u16).transpose()?;
    unknown(Tunnel::try_from((
        kind.unwrap_or(0).into(),
        port.unwrap_or(0).into(),
        checksum.unwrap_or(0).into(),
    )))
}

/// Counters in 64 bits where the kernel has them (4.1), else in 32.
fn stats(attrs: &Nest<'_>, wide: u16, narrow: u16) -> Result<Stats, Error> {
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

/// Version and size of the connection table.
pub(super) fn info(payload: &[u8]) -> Result<(u32, u32), Error> {
    let attrs = answer(payload)?;
    let version = u32_or_zero(&attrs, info::VERSION)?;
    Ok((version, u32_or_zero(&attrs, info::CONN_TAB_SIZE)?))
}

/// The global timeouts.
pub(super) fn timeouts(payload: &[u8]) -> Result<Timeouts, Error> {
    let attrs = answer(payload)?;
    // The kernel keeps ticks: a value of another program may be longer than ipvsadm allows.
    let seconds = |kind| Ok::<_, Error>(u32_or_zero(&attrs, kind)?.min(Persistence::MAX));
    unknown(Timeouts::new(
        seconds(top::TIMEOUT_TCP)?,
        seconds(top::TIMEOUT_TCP_FIN)?,
        seconds(top::TIMEOUT_UDP)?,
    ))
}

/// One daemon that runs.
pub(super) fn daemon(payload: &[u8]) -> Result<Daemon, Error> {
    let attrs = nest(payload, top::DAEMON)?;
    let number16 = |kind| attrs.find(kind).map(read_u16).transpose();
    let group = match (
        attrs.find(daemon::MCAST_GROUP),
        attrs.find(daemon::MCAST_GROUP6),
    ) {
        (Some(v4), _) => Some(address(v4, Family::V4)?),
        (None, Some(v6)) => Some(address(v6, Family::V6)?),
        (None, None) => None,
    };
    let ttl = attrs.find(daemon::MCAST_TTL).map(read_u8).transpose()?;
    let max_len = number16(daemon::SYNC_MAXLEN)?.filter(|length| *length != 0);
    let sync_id = read_u32(need(&attrs, daemon::SYNC_ID)?)?;
    Ok(Daemon {
        role: match read_u32(need(&attrs, daemon::STATE)?)? {
            1 => Role::Master,
            2 => Role::Backup,
            _ => return Err(Error::Malformed("a daemon is neither master nor backup")),
        },
        link: unknown(text(need(&attrs, daemon::MCAST_IFN)?)?.parse::<SyncLink>())?,
        sync_id: u8::try_from(sync_id).map_err(|_| Error::Malformed("a sync id is too large"))?,
        max_len: max_len
            .map(|n| unknown(SyncLen::try_from(u32::from(n))))
            .transpose()?,
        group: group
            .map(|ip| unknown(McastGroup::try_from(ip)))
            .transpose()?,
        port: number16(daemon::MCAST_PORT)?.and_then(NonZeroU16::new),
        ttl: ttl.and_then(NonZeroU8::new),
    })
}
