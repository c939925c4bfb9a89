//! Counts and ends the connections of servers.
//!
//! No interface of the kernel deletes connections. But while `net.ipv4.vs.expire_nodest_conn` is 1, deleting a
//! server ends the connections of every server that is deleted, or was before (Linux 5.9). So the servers
//! are deleted, and added again once their connections are gone. A server that is added again within two
//! minutes is the same one to the kernel, and keeps its counters.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_types::ipvs::{
    Change, Connection, ConnectionCount, Deferred, Family, Forward, Netmask, NonNegativeInt, Peer,
    Protocol, Reading, SchedFlags, Scheduling, Server, ServerFilter, ServerId, Service, ServiceId,
    Setting, Sysctl, SysctlValue, Table,
};

use super::batcher::{Batcher, NO_SCHEDULER};
use super::error::Error;
use super::restore::{Control, apply_diff, repeat_undo, with_undo_log};
use super::undo_log::UndoLog;
use super::{IpvsContext, settings};
use crate::ipvs;

/// Timeout for the connections to end; the kernel needs milliseconds.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for reading the connection table: for every 4 KiB the kernel starts again at its beginning.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for a count, which a command waits for that does something else.
const COUNT_TIMEOUT: Duration = Duration::from_secs(1);
/// First and longest interval between two looks at the table. The kernel announces no end.
const INTERVALS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(320)];

/// Servers of a request, as the table has them.
pub(super) fn servers_of(table: &Table, filters: &[ServerFilter]) -> Vec<(ServiceId, Server)> {
    let wanted = |of, id| filters.iter().any(|filter| filter.has(of, id));
    let servers = table
        .servers()
        .filter(|(of, server)| wanted(*of, server.id));
    servers.map(|(of, server)| (of, *server)).collect()
}

/// Counts the connections of servers, as far as a second suffices. Doesn't load IPVS.
pub(super) fn count(filters: &[ServerFilter]) -> Result<ConnectionCount, Error> {
    let ending = match settings::read(Sysctl::EXPIRE_NODEST_CONN) {
        Err(Error::NoSysctl(_)) => false,
        value => value? != SysctlValue::One(0),
    };
    let mut count = ConnectionCount {
        connections: 0,
        partial: false,
        ending,
    };
    let deadline = Instant::now() + COUNT_TIMEOUT;
    let read = ipvs::connections(&mut |row| {
        let wanted = |filter: &ServerFilter| filter.has_connection(&row, None);
        count.connections += u32::from(filters.iter().any(wanted));
        count.partial = Instant::now() > deadline;
        if count.partial {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    match read {
        // IPVS isn't loaded.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(count),
        read => read.map(|()| count).map_err(Error::Proc),
    }
}

/// Connections that end when servers are deleted.
struct Survey {
    /// Connections of these servers.
    wanted: usize,
    /// Connections of other servers that the table doesn't have, and the first of these.
    others: Option<(usize, Peer)>,
}

impl Survey {
    fn read(table: &Table, filters: &[ServerFilter]) -> Result<Self, Error> {
        let mut kept: HashMap<IpAddr, Vec<(ServiceId, u16)>> = HashMap::new();
        for (of, server) in table.servers() {
            kept.entry(server.id.address)
                .or_default()
                .push((of, server.id.port));
        }
        let mut survey = Self {
            wanted: 0,
            others: None,
        };
        let deadline = Instant::now() + READ_TIMEOUT;
        let mut late = false;
        let each = &mut |row: Connection| {
            let service = service_of(table, &row);
            if filters
                .iter()
                .any(|filter| filter.has_connection(&row, service))
            {
                survey.wanted += 1;
            } else if !is_kept(&kept, row.server, service) {
                let first = survey.others.map_or(row.server, |(_, first)| first);
                survey.others = Some((survey.others.map_or(0, |(count, _)| count) + 1, first));
            }
            late = Instant::now() > deadline;
            if late {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        ipvs::connections(each).map_err(Error::Proc)?;
        if late {
            Err(Error::LargeTable(READ_TIMEOUT))
        } else {
            Ok(survey)
        }
    }
}

/// Returns the service of an address to which a connection belongs.
fn service_of(table: &Table, row: &Connection) -> Option<ServiceId> {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = protocols
        .into_iter()
        .find(|protocol| row.protocol.eq_ignore_ascii_case(protocol.name()))?;
    table.service_at(protocol, row.virtual_end)
}

/// Returns whether the server of a connection is in the table. Its service can also be one of a firewall
/// mark, which rows don't contain.
fn is_kept(
    kept: &HashMap<IpAddr, Vec<(ServiceId, u16)>>,
    server: Peer,
    service: Option<ServiceId>,
) -> bool {
    let same = |(of, port): &(ServiceId, u16)| {
        let of_service = matches!(of, ServiceId::Mark { .. }) || Some(*of) == service;
        of_service && (*port == server.port || *port == 0)
    };
    kept.get(&server.address)
        .is_some_and(|servers| servers.iter().any(same))
}

/// Checks that only connections of these servers would end, and returns their number.
pub(super) fn check(table: &Table, filters: &[ServerFilter]) -> Result<usize, Error> {
    let survey = Survey::read(table, filters)?;
    match survey.others {
        Some((count, first)) => Err(Error::OtherConnections(count, first)),
        None => Ok(survey.wanted),
    }
}

/// Ends the connections of servers and returns their number, or leaves rules and settings as they were.
pub(super) fn end(context: &mut IpvsContext, filters: &[ServerFilter]) -> Result<usize, Error> {
    repeat_undo(context)?;
    let before = context.table()?;
    let servers = servers_of(&before, filters);
    let count = check(&before, filters)?;
    if count == 0 {
        let unknown = filters.first().filter(|_| servers.is_empty());
        return unknown.map_or(Ok(0), |filter| Err(Error::NoServer(filter.server)));
    }
    with_undo_log(context, |context, log| {
        let switch = Switch::turn_on(log)?;
        let ended =
            delete(context, &before, &servers, log).and_then(|()| wait_for_end(&before, filters));
        // Before the servers are back, so that nothing else is deleted meanwhile. They come back even
        // if the setting can't be restored.
        let setting = switch.0;
        let restored = switch.restore();
        let added = add_back(context, &servers);
        if let (Err(_), Ok(()), Some(setting)) = (&restored, &added, &setting) {
            let kept = context.undo_log.keep_settings([setting]);
            kept.map_err(Error::UndoLog)?;
        }
        let undone = restored.and(added);
        log.undo_failed = undone.is_err();
        match (ended, undone) {
            (Ok(()), Ok(())) => Ok(count),
            (Ok(()), Err(error)) => Err(error),
            (Err(error), undone) => Err(error.after_undo(undone)),
        }
    })
}

/// `net.ipv4.vs.expire_nodest_conn`, with the value to restore if it was 0.
struct Switch(Option<Setting>);

impl Switch {
    /// Sets it to 1, after the old value is in the log.
    fn turn_on(log: &mut UndoLog) -> Result<Self, Error> {
        let sysctl = Sysctl::EXPIRE_NODEST_CONN;
        if settings::read(sysctl)? != SysctlValue::One(0) {
            return Ok(Self(None));
        }
        let flag = |number| {
            let value = SysctlValue::One(number);
            Setting::new(Reading { sysctl, value }).map_err(|bad| bad.in_field("value"))
        };
        let (off, on) = (flag(0)?, flag(1)?);
        log.push_setting(&off);
        log.write().map_err(Error::UndoLog)?;
        settings::write(&on).map_err(|error| error.after_undo(settings::write(&off)))?;
        Ok(Self(Some(off)))
    }

    fn restore(self) -> Result<(), Error> {
        self.0.map_or(Ok(()), |setting| settings::write(&setting))
    }
}

/// Deletes the servers. Without any, because they were deleted before, a server of a service is deleted
/// that gets no packets.
fn delete(
    context: &mut IpvsContext,
    before: &Table,
    servers: &[(ServiceId, Server)],
    log: &mut UndoLog,
) -> Result<(), Error> {
    let mut batcher = Batcher::new(context, before, log)?;
    for (of, server) in servers {
        batcher.push(Change::DeleteServer(*of, server.id), None)?;
    }
    if servers.is_empty() {
        for change in trigger(before)? {
            batcher.push(change, None)?;
        }
    }
    batcher.finish().map(drop)
}

/// Returns the changes that add a service with a server and delete both again.
fn trigger(table: &Table) -> Result<[Change; 4], Error> {
    let free = |mark: &u32| {
        let is_it = |service: &Service| matches!(service.id, ServiceId::Mark { mark: taken, .. } if taken.get() == *mark);
        !table.services().any(is_it)
    };
    let mark = (1..=u32::MAX).rev().find(free).and_then(NonZeroU32::new);
    let family = Family::V4;
    let id = ServiceId::Mark {
        mark: mark.unwrap_or(NonZeroU32::MAX),
        family,
    };
    let service = Service {
        id,
        scheduler: NO_SCHEDULER
            .parse()
            .map_err(|bad: patchbay_types::InvalidValue| bad.in_field("scheduler"))?,
        persistence: None,
        netmask: Netmask::whole(family),
        scheduling: Scheduling::default(),
        flags: SchedFlags::default(),
        engine: None,
    };
    let server = ServerId {
        address: Ipv4Addr::LOCALHOST.into(),
        port: 0,
    };
    let unused = Server {
        weight: NonNegativeInt::default(),
        ..Server::new(server, Forward::Masquerade)
    };
    Ok([
        Change::AddService(service),
        Change::AddServer(id, unused),
        Change::DeleteServer(id, server),
        Change::DeleteService(id),
    ])
}

/// Waits until the table has no connection of the servers.
fn wait_for_end(before: &Table, filters: &[ServerFilter]) -> Result<(), Error> {
    let deadline = Instant::now() + END_TIMEOUT;
    let [mut interval, longest] = INTERVALS;
    loop {
        let left = Survey::read(before, filters)?.wanted;
        if left == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Connections(left, END_TIMEOUT));
        }
        thread::sleep(interval);
        interval = longest.min(interval * 2);
    }
}

/// Adds deleted servers with their former options, and changes nothing else.
fn add_back(context: &mut IpvsContext, servers: &[(ServiceId, Server)]) -> Result<(), Error> {
    let current = context.table()?;
    let mut wanted = current.clone();
    for (of, server) in servers {
        let add = Change::AddServer(*of, *server);
        let added = wanted.apply(add, None, &mut Deferred::default());
        added.map_err(Error::Conflict)?;
    }
    let (mut unlogged, free) = (UndoLog::default(), Control::default());
    apply_diff(context, &current, &wanted, &mut unlogged, free).map(drop)
}
