//! IPVS: one change, a whole rule file, and what there is.

mod error;
mod restore;
mod rules;
mod sender;
mod undo_log;

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use patchbay_codec::RowRef;
use patchbay_types::ipvs::{
    Change, Conflict, Connection, Detail, ListedServer, ListedService, MaxRules, Reading,
    RestoreMode, Restored, Service, ServiceId, Setting, Status, Sysctl, Table,
};

use crate::ipvs::{self, Ipvs, OldLists, sysctl};
use crate::modules::Modules;
use patchbay_netlink::{Batch, Generic, RecvBuffer, Socket, Transport as _};
use rules::Rules;

pub use error::Error;
pub use restore::Pieces;

/// The socket of IPVS's interface, under one lock.
#[derive(Debug)]
struct Room {
    socket: Socket<Generic>,
    /// For the servers of one service, of which there may be thousands.
    lists: Socket<Generic>,
    family: Option<Ipvs>,
    modules: Modules,
    rules: Rules,
    log: undo_log::Place,
}

/// Everything that can be asked of IPVS, in the network namespace where it was opened.
#[derive(Debug)]
pub struct IpvsService {
    room: Mutex<Room>,
}

impl IpvsService {
    /// Opens the socket; IPVS itself is looked for, and loaded, at the first request.
    /// What leads back from a rule file is logged at this path, if there is one.
    pub fn open(log: Option<PathBuf>) -> Result<Self, patchbay_netlink::Error> {
        Ok(Self {
            room: Mutex::new(Room {
                socket: Socket::open(RecvBuffer::Large)?,
                lists: Socket::open(RecvBuffer::Small)?,
                family: None,
                modules: Modules::of_this_kernel(),
                rules: Rules::default(),
                log: undo_log::Place::new(log),
            }),
        })
    }

    /// One change. An add is refused where there are as many rules as there may be.
    pub fn change(&self, change: &Change, max: MaxRules) -> Result<(), Error> {
        let mut room = self.lock();
        let ipvs = room.ipvs()?;
        if matches!(change, Change::AddService(_) | Change::AddServer(..)) {
            room.rules.one_more(max)?;
        }
        if let Change::AddService(service) | Change::EditService(service) = change {
            room.load_for(service)?;
        }
        let mut batch = Batch::default();
        ipvs.push(&mut batch, change);
        match room.socket.send(&batch)?.pop() {
            Some((_, refusal)) => Err(Error::refused(change, refusal)),
            None => Ok(()),
        }
    }

    /// A whole rule file: all of it, or nothing.
    pub fn restore(
        &self,
        file: &Pieces,
        mode: RestoreMode,
        max: MaxRules,
    ) -> Result<Restored, Error> {
        restore::restore(&mut self.lock(), file, mode, max)
    }

    /// Goes back from a rule file at which an agent was killed; says whether there was one.
    pub fn recover(&self) -> Result<Option<Restored>, Error> {
        restore::recover(&mut self.lock())
    }

    /// One service or all, each followed by its servers, in the kernel's order. The lock is given up
    /// between services: who takes them may be slow, and the kernel's own lists are no snapshot
    /// either.
    pub fn table(
        &self,
        only: Option<ServiceId>,
        detail: Detail,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let services = self.lock().services(only)?;
        // A kernel without them tells the same by netlink.
        let mut lists = match (detail, only) {
            (Detail::Rules, None) => OldLists::open().ok(),
            _ => None,
        };
        for ListedService { service, stats, .. } in &services {
            let known = lists.as_mut().and_then(|lists| lists.of(service.id));
            let asked = match known {
                Some(_) => Vec::new(),
                None => self.lock().servers(service.id)?,
            };
            let mut rows = std::iter::once(RowRef::Service(service, stats))
                .chain(known.unwrap_or(&asked).iter().map(RowRef::Server));
            if rows.try_for_each(&mut *each).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Version, timeouts, daemons.
    pub fn status(&self) -> Result<Status, Error> {
        let mut room = self.lock();
        let ipvs = room.ipvs()?;
        Ok(ipvs.status(&mut room.socket)?)
    }

    /// The connection table, row by row.
    pub fn connections(&self, each: &mut dyn FnMut(Connection)) -> Result<(), Error> {
        self.lock().ipvs()?;
        ipvs::connections(each).map_err(Error::Proc)
    }

    /// The settings that this kernel has.
    pub fn sysctls(&self) -> Result<Vec<Reading>, Error> {
        self.lock().ipvs()?;
        let read = |sysctl| match sysctl::read(sysctl) {
            Ok(value) => value.map(|value| Ok(Reading { sysctl, value })),
            Err(error) => Some(Err(Error::Sysctl(sysctl, error))),
        };
        Sysctl::all().filter_map(read).collect()
    }

    /// Sets one of them.
    pub fn set_sysctl(&self, setting: &Setting) -> Result<(), Error> {
        self.lock().ipvs()?;
        let sysctl = setting.get().sysctl;
        sysctl::write(setting).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::NoSysctl(sysctl),
            _ => Error::Sysctl(sysctl, error),
        })
    }

    /// A panic while it was held leaves nothing of the kernel's half done in memory.
    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// IPVS's family; the module is loaded where the kernel does not load it by itself.
    fn ipvs(&mut self) -> Result<Ipvs, Error> {
        if let Some(family) = self.family {
            return Ok(family);
        }
        if let Some(family) = Ipvs::resolve(&mut self.socket)? {
            return Ok(*self.family.insert(family));
        }
        self.modules.load("ip_vs")?;
        let family = Ipvs::resolve(&mut self.socket)?.ok_or(Error::NoIpvs)?;
        Ok(*self.family.insert(family))
    }

    /// Loads the scheduler and the persistence engine that a service needs. One that is no module
    /// may be built in: the kernel will say.
    fn load_for(&self, service: &Service) -> Result<(), Error> {
        self.modules.load(&format!("ip_vs_{}", service.scheduler))?;
        if let Some(engine) = &service.engine {
            self.modules.load(&format!("ip_vs_pe_{engine}"))?;
        }
        Ok(())
    }

    /// One service or all, without servers.
    fn services(&mut self, only: Option<ServiceId>) -> Result<Vec<ListedService>, Error> {
        let ipvs = self.ipvs()?;
        let Some(id) = only else {
            return Ok(ipvs.services(&mut self.socket)?);
        };
        match ipvs.service(&mut self.socket, id) {
            Ok(listed) => Ok(vec![listed]),
            Err(patchbay_netlink::Error::Refused(refusal)) if refusal.is(Errno::ESRCH) => {
                Err(Error::Conflict(Conflict::NoService(id)))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn servers(&mut self, id: ServiceId) -> Result<Vec<ListedServer>, Error> {
        let ipvs = self.ipvs()?;
        Ok(ipvs.servers(&mut self.lists, id)?)
    }

    fn table(&mut self) -> Result<Table, Error> {
        let mut table = Table::default();
        let services = self.services(None)?;
        let mut lists = OldLists::open().ok();
        for ListedService { service, .. } in services {
            if let Some(known) = lists.as_mut().and_then(|lists| lists.of(service.id)) {
                table.insert(service, known);
            } else {
                let asked = self.servers(service.id)?;
                table.insert(service, &asked);
            }
        }
        Ok(table)
    }
}
