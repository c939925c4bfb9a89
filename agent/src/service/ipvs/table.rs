//! The table of services and servers as a value: rule files are folded into one, and the difference
//! of two is what the kernel is asked to do.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::num::NonZeroU32;

use patchbay_protocols::ipvs::{
    Change, ListedService, Server, ServerId, Service, ServiceId, Timeouts,
};

use super::error::Clash;

/// A rule, and the line of the file that last said it; the kernel's own rules have none.
type Ruled<T> = (T, Option<NonZeroU32>);

#[derive(Debug, Clone)]
struct Row {
    service: Ruled<Service>,
    servers: BTreeMap<ServerId, Ruled<Server>>,
}

/// Services with their servers.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    rows: BTreeMap<ServiceId, Row>,
}

/// One change on the way from one table to another, and the line that asks for it.
pub(super) type Step = (Change, Option<NonZeroU32>);

/// What a rule file asks for besides rules; done when the table is.
#[derive(Debug, Default)]
pub(super) struct Afterwards {
    /// The last that were set.
    pub(super) timeouts: Option<Timeouts>,
    /// Counters to be zeroed.
    pub(super) zero: Vec<Option<ServiceId>>,
}

impl Table {
    /// A service as the kernel lists it.
    pub(super) fn insert(&mut self, listed: ListedService) {
        let servers = listed.servers.into_iter();
        let row = Row {
            service: (listed.service, None),
            servers: servers
                .map(|listed| (listed.server.id, (listed.server, None)))
                .collect(),
        };
        self.rows.insert(row.service.0.id, row);
    }

    /// Services and servers.
    pub(super) fn rules(&self) -> usize {
        self.rows.values().map(|row| 1 + row.servers.len()).sum()
    }

    /// Services.
    pub(super) fn services(&self) -> impl Iterator<Item = &Service> {
        self.rows.values().map(|row| &row.service.0)
    }

    /// One line of a rule file. What was there before the file may be added again: it becomes what
    /// the line says; what the file itself has added may not.
    pub(super) fn apply(
        &mut self,
        change: Change,
        line: Option<NonZeroU32>,
        afterwards: &mut Afterwards,
    ) -> Result<(), Clash> {
        match change {
            Change::AddService(service) => self.add_service(service, line)?,
            Change::EditService(service) => {
                let row = self.row(service.id)?;
                row.service = (service, line);
            }
            Change::DeleteService(id) => {
                self.rows.remove(&id).ok_or(Clash::NoService(id))?;
            }
            Change::Clear => self.rows.clear(),
            Change::AddServer(of, server) => match self.row(of)?.servers.entry(server.id) {
                Entry::Occupied(old) if old.get().1.is_some() => {
                    return Err(Clash::ServerExists(of, server.id));
                }
                Entry::Occupied(mut old) => drop(old.insert((server, line))),
                Entry::Vacant(new) => drop(new.insert((server, line))),
            },
            Change::EditServer(of, server) => {
                let old = self.row(of)?.servers.get_mut(&server.id);
                *old.ok_or(Clash::NoServer(of, server.id))? = (server, line);
            }
            Change::DeleteServer(of, server) => {
                let old = self.row(of)?.servers.remove(&server);
                old.ok_or(Clash::NoServer(of, server))?;
            }
            Change::Zero(id) => {
                if let Some(id) = id {
                    self.row(id)?;
                }
                afterwards.zero.push(id);
            }
            Change::SetTimeouts(timeouts) => afterwards.timeouts = Some(timeouts),
            Change::StartDaemon(_) | Change::StopDaemon(_) => return Err(Clash::NoRule),
        }
        Ok(())
    }

    fn add_service(&mut self, service: Service, line: Option<NonZeroU32>) -> Result<(), Clash> {
        match self.rows.entry(service.id) {
            Entry::Occupied(old) if old.get().service.1.is_some() => {
                Err(Clash::ServiceExists(service.id))
            }
            Entry::Occupied(mut old) => {
                old.get_mut().service = (service, line);
                Ok(())
            }
            Entry::Vacant(new) => {
                let servers = BTreeMap::new();
                new.insert(Row {
                    service: (service, line),
                    servers,
                });
                Ok(())
            }
        }
    }

    fn row(&mut self, id: ServiceId) -> Result<&mut Row, Clash> {
        self.rows.get_mut(&id).ok_or(Clash::NoService(id))
    }

    /// What leads from this table to that one, in an order that keeps traffic: what is new or
    /// different first, what goes last. What stays is not touched.
    pub(super) fn steps_to<'a>(&'a self, to: &'a Self) -> Box<dyn Iterator<Item = Step> + 'a> {
        if to.rows.is_empty() && !self.rows.is_empty() {
            return Box::new(std::iter::once((Change::Clear, None)));
        }
        let made = to
            .rows
            .values()
            .flat_map(|row| make(self.rows.get(&row.service.0.id), row));
        let gone = self.rows.values().flat_map(|row| {
            let id = row.service.0.id;
            remove(row, to.rows.get(&id))
        });
        Box::new(made.chain(gone))
    }
}

/// Adds and edits of one service and its servers.
fn make<'a>(from: Option<&'a Row>, to: &'a Row) -> impl Iterator<Item = Step> + 'a {
    let (service, line) = &to.service;
    let own = match from {
        None => Some(Change::AddService(service.clone())),
        Some(old) if old.service.0 != *service => Some(Change::EditService(service.clone())),
        Some(_) => None,
    };
    let servers = to.servers.values().filter_map(move |(server, line)| {
        let old = from.and_then(|row| row.servers.get(&server.id));
        let change = match old {
            None => Change::AddServer(to.service.0.id, *server),
            Some((old, _)) if old != server => Change::EditServer(to.service.0.id, *server),
            Some(_) => return None,
        };
        Some((change, *line))
    });
    own.map(|change| (change, *line)).into_iter().chain(servers)
}

/// Deletes of one service, or of those of its servers that are not wanted.
fn remove<'a>(from: &'a Row, to: Option<&'a Row>) -> impl Iterator<Item = Step> + 'a {
    let id = from.service.0.id;
    let own = to.is_none().then_some((Change::DeleteService(id), None));
    let servers = to.into_iter().flat_map(move |to| {
        let gone = from
            .servers
            .keys()
            .filter(|server| !to.servers.contains_key(server));
        gone.map(move |server| (Change::DeleteServer(id, *server), None))
    });
    own.into_iter().chain(servers)
}
