//! From a line that was read to the command that it is, by the rules for the whole line.

use super::error::Refused;
use super::grammar::{Draft, Grammar, TunnelKind};
use super::matrix;
use super::numbers;
use super::options::{Key, Row, Verb};
use super::{Command, CounterFormat, EngineColumns, Format, Names, Order, TableView, View};
use patchbay_types::ipvs::{
    Change, Checksum, Daemon, Forward, Netmask, NonNegativeInt, Persistence, Role, SchedFlags,
    Scheduler, Scheduling, Server, Service, ServiceId, Timeouts, Tunnel,
};

/// The scheduler that a service gets if none is named.
const DEFAULT_SCHEDULER: &str = "wlc";
/// The link over which daemons talk if none is named.
const DEFAULT_LINK: &str = "eth0";

/// The whole line's command. The order of the checks is ipvsadm's.
pub(super) fn command(grammar: &Grammar<'_>, draft: &Draft<'_>) -> Result<Command, Refused> {
    let Key::Verb(verb) = draft.command.key else {
        return Err(Refused::NoCommand);
    };
    let timeouts = match verb {
        Verb::Set => Some(timeouts(draft)?),
        _ => None,
    };
    let taken = if verb == Verb::Set { 3 } else { 0 };
    if let Some(word) = draft.plain.get(taken) {
        return Err(Refused::word(word));
    }
    let scheduler = match &draft.scheduler {
        Some(scheduler) => *scheduler,
        None => named(draft.command, DEFAULT_SCHEDULER)?,
    };
    let flags = sched_flags(draft.flags.unwrap_or_default(), &scheduler)?;
    matrix::check(draft.command, &draft.seen)?;
    Ok(match (verb, draft.service) {
        (Verb::AddService, Some(id)) => {
            Command::Change(Change::AddService(service(draft, id, scheduler, flags)?))
        }
        (Verb::EditService, Some(id)) => {
            Command::Change(Change::EditService(service(draft, id, scheduler, flags)?))
        }
        (Verb::DeleteService, Some(id)) => Command::Change(Change::DeleteService(id)),
        (Verb::AddServer, Some(id)) => {
            Command::Change(Change::AddServer(id, server(grammar, draft, id)?))
        }
        (Verb::EditServer, Some(id)) => {
            Command::Change(Change::EditServer(id, server(grammar, draft, id)?))
        }
        (Verb::DeleteServer, Some(id)) => {
            let server = draft.server.ok_or(Refused::NoCommand)?;
            Command::Change(Change::DeleteServer(id, server))
        }
        (Verb::Zero, id) => Command::Change(Change::Zero(id.filter(|id| !is_nothing(*id)))),
        (Verb::Clear, _) => Command::Change(Change::Clear),
        (Verb::StartDaemon, _) => Command::Change(Change::StartDaemon(daemon(draft)?)),
        (Verb::StopDaemon, _) => Command::Change(Change::StopDaemon(role(draft)?)),
        (Verb::List, service) => Command::View(view(draft, service)),
        (Verb::Save, _) => Command::View(View::Save(names(draft))),
        (Verb::Restore, _) => Command::Restore,
        (Verb::Help, _) => Command::Help,
        (Verb::Version, _) => Command::Version,
        (Verb::Set, _) => {
            Command::Change(Change::SetTimeouts(timeouts.ok_or(Refused::ThreeTimeouts)?))
        }
        // The matrix has refused these already.
        (
            Verb::AddService
            | Verb::EditService
            | Verb::DeleteService
            | Verb::AddServer
            | Verb::EditServer
            | Verb::DeleteServer,
            None,
        ) => return Err(Refused::NoCommand),
    })
}

/// ipvsadm's library takes a service of zeros for none.
fn is_nothing(id: ServiceId) -> bool {
    match id {
        ServiceId::Address { address, port, .. } => address.is_unspecified() && port == 0,
        ServiceId::Mark { .. } => false,
    }
}

fn named<const MAX: usize>(
    row: &Row,
    text: &str,
) -> Result<patchbay_types::ipvs::ShortName<MAX>, Refused> {
    let read = text.parse::<patchbay_types::ipvs::ShortName<MAX>>();
    read.map_err(|bad| Refused::Value(bad.in_field(row.name())))
}

fn timeouts(draft: &Draft<'_>) -> Result<Timeouts, Refused> {
    let [tcp, tcp_fin, udp, ..] = draft.plain.as_slice() else {
        return Err(Refused::ThreeTimeouts);
    };
    let rule = "a timeout is 0 to 2678400 seconds";
    let seconds = |text| {
        numbers::within(text, 0, Persistence::MAX)
            .ok_or_else(|| Refused::value(draft.command, text, rule))
    };
    Timeouts::new(seconds(tcp)?, seconds(tcp_fin)?, seconds(udp)?)
        .map_err(|bad| Refused::Value(bad.in_field(draft.command.name())))
}

/// A list with commas; empty items are passed over, but a list of nothing else is refused (it
/// crashes ipvsadm).
fn sched_flags(list: &str, scheduler: &Scheduler) -> Result<SchedFlags, Refused> {
    let mut bits = 0;
    let mut items = list.split(',').filter(|item| !item.is_empty()).peekable();
    let unknown = |flag: &str| Refused::Flag {
        flag: flag.escape_debug().take(32).collect(),
        scheduler: scheduler.to_string(),
    };
    if items.peek().is_none() && !list.is_empty() {
        return Err(unknown(list));
    }
    for item in items {
        let generic = ["flag-1", "flag-2", "flag-3"];
        let own = SchedFlags::names(scheduler).iter();
        let position = generic.iter().position(|name| *name == item);
        let position = position.or_else(|| own.into_iter().position(|name| *name == item));
        bits |= 1 << position.ok_or_else(|| unknown(item))?;
    }
    Ok(SchedFlags::from_bits(bits))
}

fn service(
    draft: &Draft<'_>,
    id: ServiceId,
    scheduler: Scheduler,
    flags: SchedFlags,
) -> Result<Service, Refused> {
    let service = Service {
        id,
        scheduler,
        persistence: draft.persistence,
        netmask: draft.netmask.unwrap_or(Netmask::whole(id.family())),
        scheduling: if draft.has(Key::Ops) {
            Scheduling::Packets
        } else {
            Scheduling::Connections
        },
        flags,
        engine: draft.engine,
    };
    Ok(service.checked()?)
}

fn server(grammar: &Grammar<'_>, draft: &Draft<'_>, service: ServiceId) -> Result<Server, Refused> {
    let tunnel_option = draft.seen.iter().find(|row| {
        let with_port = [Key::TunType, Key::TunPort];
        let checksums = [Key::TunNoCsum, Key::TunCsum, Key::TunRemCsum];
        with_port.contains(&row.key) || checksums.contains(&row.key)
    });
    let forward = match draft.forward {
        Some(Key::Gateway) => Forward::Route,
        Some(Key::Masquerade) => Forward::Masquerade,
        Some(_) => Forward::Tunnel(tunnel(draft)?),
        None => grammar.forward,
    };
    if let (Some(row), false) = (tunnel_option, matches!(forward, Forward::Tunnel(_))) {
        return Err(Refused::NoTunnel((*row).into()));
    }
    let server = Server {
        id: draft.server.ok_or(Refused::NoCommand)?,
        forward,
        weight: draft.weight.unwrap_or(NonNegativeInt::ONE),
        upper: draft.upper,
        lower: draft.lower,
    };
    Ok(server.of(service)?)
}

fn tunnel(draft: &Draft<'_>) -> Result<Tunnel, Refused> {
    let refuse = |keys: &[Key], tunnel| match draft.seen.iter().find(|row| keys.contains(&row.key))
    {
        Some(row) => Err(Refused::NotForTunnel {
            option: (*row).into(),
            tunnel,
        }),
        None => Ok(()),
    };
    let checksum = draft.checksum.unwrap_or(Checksum::No);
    match draft.tunnel.unwrap_or(TunnelKind::Ipip) {
        TunnelKind::Ipip => {
            let keys = [Key::TunPort, Key::TunNoCsum, Key::TunCsum, Key::TunRemCsum];
            refuse(&keys, "ipip")?;
            Ok(Tunnel::Ipip)
        }
        TunnelKind::Gue => Ok(Tunnel::Gue {
            port: draft.tunnel_port.ok_or(Refused::TunnelPort)?,
            checksum,
        }),
        TunnelKind::Gre => {
            refuse(&[Key::TunPort, Key::TunRemCsum], "gre")?;
            Ok(Tunnel::Gre { checksum })
        }
    }
}

fn role(draft: &Draft<'_>) -> Result<Role, Refused> {
    draft
        .role
        .ok_or_else(|| Refused::missing_value(draft.command))
}

fn daemon(draft: &Draft<'_>) -> Result<Daemon, Refused> {
    Ok(Daemon {
        role: role(draft)?,
        link: match &draft.link {
            Some(link) => *link,
            None => named(draft.command, DEFAULT_LINK)?,
        },
        sync_id: draft.sync_id,
        max_len: draft.max_len,
        group: draft.group,
        port: draft.port,
        ttl: draft.ttl,
    })
}

fn names(draft: &Draft<'_>) -> Names {
    if draft.has(Key::Numeric) {
        Names::Numeric
    } else {
        Names::Resolved
    }
}

/// Several formats may be asked for; the first of these wins.
const FORMATS: [(Key, Format); 5] = [
    (Key::Stats, Format::Stats),
    (Key::Rate, Format::Rates),
    (Key::Thresholds, Format::Thresholds),
    (Key::PersistentConn, Format::Persistence),
    (Key::TunInfo, Format::Tunnels),
];

fn view(draft: &Draft<'_>, service: Option<ServiceId>) -> View {
    let format = FORMATS.iter().find(|(key, _)| draft.has(*key));
    if draft.has(Key::Connection) {
        let data = if draft.has(Key::PersistentConn) {
            EngineColumns::Shown
        } else {
            EngineColumns::Hidden
        };
        View::Connections(names(draft), data)
    } else if draft.has(Key::Timeout) {
        View::Timeouts
    } else if draft.has(Key::Daemon) {
        View::Daemons
    } else {
        View::Table(TableView {
            service,
            format: format.map_or(Format::Rules, |(_, format)| *format),
            order: if draft.has(Key::NoSort) {
                Order::Kernel
            } else {
                Order::Sorted
            },
            names: names(draft),
            digits: if draft.has(Key::Exact) {
                CounterFormat::Exact
            } else {
                CounterFormat::Short
            },
        })
    }
}
