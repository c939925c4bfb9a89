//! Table of services and servers as a value. A rule file is folded into one, and the difference of
//! two tables is the list of changes for the kernel.

use std::collections::BTreeMap;
use std::collections::btree_map::{Entry, Range};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use super::{
    Change, Daemon, ListedServer, Peer, Protocol, Role, RuleLine, Server, ServerId, Service,
    ServiceId, Timeouts,
};

mod conflict;

pub use conflict::{BadFile, Conflict, MaxRules, TooManyRules};

/// Rule with the last line of the file that set it; a rule of the kernel has none.
type WithLine<T> = (T, Option<NonZeroU32>);

/// Services and servers. One map of servers takes a third of the memory of a map per service.
#[derive(Debug, Clone, Default)]
pub struct Table {
    services: BTreeMap<ServiceId, WithLine<Service>>,
    servers: BTreeMap<(ServiceId, ServerId), WithLine<Server>>,
}

/// Change from one table to another, with the line that requests it.
pub type Step = (Change, Option<NonZeroU32>);

/// Requests of a rule file besides rules, carried out after them.
#[derive(Debug, Default)]
pub struct Deferred {
    /// Timeouts that were set.
    pub timeouts: Option<Timeouts>,
    /// Services whose counters are zeroed.
    pub zero: Vec<Option<ServiceId>>,
    /// Sync daemons that are started, or stopped if `None`, with the line of each.
    pub daemons: BTreeMap<Role, (Option<Daemon>, Option<NonZeroU32>)>,
}

impl Table {
    /// Builds the table that a rule file creates from an empty one.
    ///
    /// # Errors
    /// The first line that conflicts with earlier ones, or too many rules.
    pub fn of_file(lines: &[RuleLine], max: MaxRules) -> Result<Self, BadFile> {
        let (mut table, mut deferred) = (Self::default(), Deferred::default());
        for RuleLine { number, change } in lines {
            let line = NonZeroU32::new(*number);
            table
                .apply(change.clone(), line, &mut deferred)
                .map_err(|conflict| BadFile::Conflict {
                    line: *number,
                    conflict,
                })?;
        }
        max.check(table.rules())?;
        Ok(table)
    }

    /// Adds a service and its servers as the kernel lists them.
    pub fn insert(&mut self, service: Service, servers: &[ListedServer]) {
        let id = service.id;
        self.services.insert(id, (service, None));
        for ListedServer { server, .. } in servers {
            self.servers.insert((id, server.id), (*server, None));
        }
    }

    /// Returns the number of services and servers.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.services.len() + self.servers.len()
    }

    /// Returns the services.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(|(service, _)| service)
    }

    /// Returns the servers with their services.
    pub fn servers(&self) -> impl Iterator<Item = (ServiceId, &Server)> {
        let servers = self.servers.iter();
        servers.map(|((of, _), (server, _))| (*of, server))
    }

    /// Returns a server of a service.
    #[must_use]
    pub fn server(&self, of: ServiceId, id: ServerId) -> Option<&Server> {
        self.servers.get(&(of, id)).map(|(server, _)| server)
    }

    /// Returns the service of an address that gets packets to it.
    #[must_use]
    pub fn service_at(&self, protocol: Protocol, peer: Peer) -> Option<ServiceId> {
        let at_port = |port| ServiceId::Address {
            protocol,
            address: peer.address,
            port,
        };
        let ids = [at_port(peer.port), at_port(0)];
        ids.into_iter().find(|id| self.services.contains_key(id))
    }

    /// Returns the changes that create a service and its servers; none if the table lacks the
    /// service.
    pub fn recreate(&self, id: ServiceId) -> impl Iterator<Item = Change> {
        let service = self.services.get(&id).into_iter();
        let service = service.map(|(service, _)| Change::AddService(service.clone()));
        let servers = self.servers_of(id);
        service.chain(servers.map(move |(_, (server, _))| Change::AddServer(id, *server)))
    }

    /// Applies a line of a rule file. It can redefine a rule that existed before the file, but not
    /// one that the file added.
    ///
    /// # Errors
    /// A line that conflicts with earlier ones.
    pub fn apply(
        &mut self,
        change: Change,
        line: Option<NonZeroU32>,
        afterwards: &mut Deferred,
    ) -> Result<(), Conflict> {
        match change {
            Change::AddService(service) => {
                let id = service.id;
                let new = (service, line);
                add(&mut self.services, id, new).map_err(|()| Conflict::ServiceExists(id))?;
            }
            Change::EditService(service) => {
                let id = service.id;
                let old = self.services.get_mut(&id).ok_or(Conflict::NoService(id))?;
                *old = (service, line);
            }
            Change::DeleteService(id) => {
                self.services.remove(&id).ok_or(Conflict::NoService(id))?;
                let servers: Vec<_> = self.servers_of(id).map(|(key, _)| *key).collect();
                for key in servers {
                    self.servers.remove(&key);
                }
            }
            Change::Clear => *self = Self::default(),
            Change::AddServer(of, server) => {
                self.check(of)?;
                let new = (server, line);
                let added = add(&mut self.servers, (of, server.id), new);
                added.map_err(|()| Conflict::ServerExists(of, server.id))?;
            }
            Change::EditServer(of, server) => {
                self.check(of)?;
                let old = self.servers.get_mut(&(of, server.id));
                *old.ok_or(Conflict::NoServer(of, server.id))? = (server, line);
            }
            Change::DeleteServer(of, server) => {
                self.check(of)?;
                let old = self.servers.remove(&(of, server));
                old.ok_or(Conflict::NoServer(of, server))?;
            }
            Change::Zero(id) => {
                id.map_or(Ok(()), |id| self.check(id))?;
                afterwards.zero.push(id);
            }
            Change::SetTimeouts(timeouts) => {
                afterwards.timeouts = Some(timeouts.after(afterwards.timeouts));
            }
            Change::StartDaemon(daemon) => {
                let role = daemon.role;
                let before = afterwards.daemons.insert(role, (Some(daemon), line));
                if let Some((Some(_), _)) = before {
                    return Err(Conflict::DaemonStarted(role));
                }
            }
            Change::StopDaemon(role) => {
                afterwards.daemons.insert(role, (None, line));
            }
        }
        Ok(())
    }

    fn check(&self, id: ServiceId) -> Result<(), Conflict> {
        if self.services.contains_key(&id) {
            Ok(())
        } else {
            Err(Conflict::NoService(id))
        }
    }

    fn servers_of(&self, id: ServiceId) -> Range<'_, (ServiceId, ServerId), WithLine<Server>> {
        let first = ServerId {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 0,
        };
        let last = ServerId {
            address: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
            port: u16::MAX,
        };
        self.servers.range((id, first)..=(id, last))
    }

    /// Returns the changes from this table to another, in an order that keeps traffic: additions
    /// and edits first, deletions last. Equal rules are not touched.
    #[must_use]
    pub fn diff<'a>(&'a self, to: &'a Self) -> Box<dyn Iterator<Item = Step> + 'a> {
        if to.services.is_empty() && !self.services.is_empty() {
            return Box::new(std::iter::once((Change::Clear, None)));
        }
        let made = to.services.values().flat_map(|(service, line)| {
            let own = match self.services.get(&service.id) {
                None => Some(Change::AddService(service.clone())),
                Some((old, _)) if old != service => Some(Change::EditService(service.clone())),
                Some(_) => None,
            };
            let servers = to.servers_of(service.id);
            let servers = servers.filter_map(|(key, server)| self.server_step(*key, *server));
            own.map(|change| (change, *line)).into_iter().chain(servers)
        });
        let gone = self.services.keys().flat_map(|id| {
            let kept = to.services.contains_key(id);
            let own = (!kept).then_some((Change::DeleteService(*id), None));
            // Deleting a service deletes its servers.
            let servers = self.servers_of(*id).filter(move |_| kept);
            let servers = servers.filter(|(key, _)| !to.servers.contains_key(key));
            own.into_iter()
                .chain(servers.map(|((of, server), _)| (Change::DeleteServer(*of, *server), None)))
        });
        Box::new(made.chain(gone))
    }

    fn server_step(
        &self,
        key: (ServiceId, ServerId),
        (server, line): WithLine<Server>,
    ) -> Option<Step> {
        let change = match self.servers.get(&key) {
            None => Change::AddServer(key.0, server),
            Some((old, _)) if *old != server => Change::EditServer(key.0, server),
            Some(_) => return None,
        };
        Some((change, line))
    }
}

/// Adds a rule, or replaces one that existed before the file.
fn add<K: Ord, T>(map: &mut BTreeMap<K, WithLine<T>>, key: K, new: WithLine<T>) -> Result<(), ()> {
    match map.entry(key) {
        Entry::Occupied(old) if old.get().1.is_some() => Err(()),
        Entry::Occupied(mut old) => {
            old.insert(new);
            Ok(())
        }
        Entry::Vacant(place) => {
            place.insert(new);
            Ok(())
        }
    }
}
