//! Operations on IPVS: single changes, rule files, and lists.

mod batcher;
mod daemons;
mod drain;
mod end;
mod error;
mod restore;
mod rule_count;
mod settings;
mod undo_log;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use patchbay_codec::TableRowRef;
use patchbay_types::ipvs::{
    Change, Conflict, Connection, ConnectionCount, Detail, DrainProgress, ListedServer,
    ListedService, MaxRules, Reading, RestoreMode, Restored, ServerFilter, ServerId, Service,
    ServiceId, Setting, Status, Table,
};

use crate::cancellation::Cancellation;
use crate::ipvs::{self, Ipvs, Lists, sysctl};
use crate::modules::Loader;
use crate::privilege::BindPrivilege;
use drain::Drained;
use patchbay_netlink::{Batch, Generic, RecvBuffer, Socket, Transport as _};
use rule_count::RuleCount;
use undo_log::UndoLogPath;

pub use batcher::Watch;
pub use error::Error;
use restore::Control;
pub use restore::RuleFile;
pub use settings::Loading;

/// Prefix of the settings of the module `nf_conntrack`.
const CONNTRACK_PREFIX: &str = "net.netfilter.";

/// State of the operations; a single lock guards it.
#[derive(Debug)]
struct IpvsContext {
    kernel: Option<IpvsKernel>,
    modules: Arc<Loader>,
    rule_count: RuleCount,
    undo_log: UndoLogPath,
    /// Whether the undo log is that of an operation whose undo failed.
    undo_failed: bool,
    /// Servers that are being drained.
    draining: Vec<(ServiceId, ServerId)>,
    /// Drained servers whose weights could not be restored.
    undrained: Vec<Drained>,
}

/// Operations on the IPVS table of a network namespace. Clones share the state, except for the
/// cancellation.
#[derive(Debug, Clone)]
pub struct IpvsOps {
    context: Arc<Mutex<IpvsContext>>,
    cancellation: Cancellation,
}

/// IPVS of the running kernel.
#[derive(Debug)]
struct IpvsKernel {
    family: Ipvs,
    socket: Socket<Generic>,
    /// For lists of servers, of which there can be thousands of short ones.
    lists: Socket<Generic>,
}

impl IpvsOps {
    /// The first request loads the IPVS module and opens the sockets, since a kernel can lack generic netlink.
    /// `undo_log` is the path of the log that undoes a rule file after a crash; it must be on tmpfs.
    pub fn new(undo_log: Option<PathBuf>, modules: Arc<Loader>) -> Self {
        let context = IpvsContext {
            kernel: None,
            modules,
            rule_count: RuleCount::default(),
            undo_log: UndoLogPath(undo_log),
            undo_failed: false,
            draining: Vec::new(),
            undrained: Vec::new(),
        };
        Self {
            context: Arc::new(Mutex::new(context)),
            cancellation: Cancellation::default(),
        }
    }

    /// Makes a rule file stop, and undo what it has changed, when `cancellation` is requested.
    pub(super) fn with_cancellation(self, cancellation: &Cancellation) -> Self {
        Self {
            cancellation: cancellation.clone(),
            ..self
        }
    }

    /// Applies a single change. Adding fails if there are `max` rules already.
    pub fn change(&self, change: &Change, max: MaxRules) -> Result<(), Error> {
        let mut context = self.lock();
        context.ipvs()?;
        // If it fails again, the change can be the one that makes it possible.
        let _ = restore::repeat_undo(&mut context);
        if matches!(change, Change::AddService(_) | Change::AddServer(..)) {
            context.rule_count.add_one(max)?;
        }
        if let Change::AddService(service) | Change::EditService(service) = change {
            context.load_for(service)?;
        }
        context.send(change)
    }

    /// Applies a rule file as a whole, or leaves the table unchanged. `watch` gets the progress.
    pub fn restore(
        &self,
        file: &RuleFile,
        mode: RestoreMode,
        max: MaxRules,
        watch: Watch<'_>,
    ) -> Result<Restored, Error> {
        let control = Control {
            cancellation: self.cancellation.clone(),
            watch,
        };
        restore::restore(&mut self.lock(), file, mode, max, control)
    }

    /// Undoes the operation of a killed agent. Returns whether there was any.
    pub fn recover(&self) -> Result<bool, Error> {
        let context = &mut self.lock();
        let undone = restore::recover(context);
        // Nobody can apply a log that can't be read, so the next operation replaces it.
        context.undo_failed = undone
            .as_ref()
            .is_err_and(|error| !matches!(error, Error::UndoLog(_)));
        let drains = drain::recover(context);
        Ok(undone?.is_some() | drains?)
    }

    /// Passes one service or all, each followed by its servers, to `each` in the kernel's order. The
    /// lock is released between services, because the receiver can be slow. The list isn't a
    /// snapshot, and neither are the kernel's own.
    pub fn table(
        &self,
        only: Option<ServiceId>,
        detail: Detail,
        each: &mut dyn FnMut(TableRowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let services = self.lock().services(only, detail)?;
        let mut lists = match only {
            None => Lists::open(&services, detail),
            Some(_) => Lists::None,
        };
        for ListedService { service, stats, .. } in &services {
            let fast = lists.of(service.id);
            let by_netlink = match fast {
                Some(_) => Vec::new(),
                None => self.lock().servers(service.id, detail)?,
            };
            let mut rows = std::iter::once(TableRowRef::Service(service, stats))
                .chain(fast.unwrap_or(&by_netlink).iter().map(TableRowRef::Server));
            if rows.try_for_each(&mut *each).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Returns the version, timeouts and daemons.
    pub fn status(&self) -> Result<Status, Error> {
        let mut context = self.lock();
        let ipvs = context.ipvs()?;
        Ok(ipvs.family.status(&mut ipvs.socket)?)
    }

    /// Passes the rows of the connection table to `each`.
    pub fn connections(&self, each: &mut dyn FnMut(Connection)) -> Result<(), Error> {
        self.lock().ipvs()?;
        ipvs::connections(&mut |row| {
            each(row);
            ControlFlow::Continue(())
        })
        .map_err(Error::Proc)
    }

    /// Returns the settings that this kernel has.
    pub fn sysctls(&self, ipvs: Loading) -> Result<Vec<Reading>, Error> {
        if ipvs == Loading::OnDemand {
            self.lock().ipvs()?;
        }
        settings::read_all()
    }

    /// Returns the number of flows that conntrack tracks; `None` if it isn't loaded.
    #[must_use]
    pub fn flows(&self) -> Option<u32> {
        sysctl::flows()
    }

    /// Changes a setting.
    pub fn set_sysctl(&self, setting: &Setting) -> Result<(), Error> {
        let sysctl = setting.get().sysctl;
        if sysctl.is_ipvs() {
            self.lock().ipvs()?;
        } else if sysctl.full_name().starts_with(CONNTRACK_PREFIX) {
            self.lock().modules.load("nf_conntrack")?;
        }
        settings::write(setting)
    }

    /// Counts the connections of servers, as far as a second suffices. Doesn't load IPVS.
    pub fn count_connections(&self, servers: &[ServerFilter]) -> Result<ConnectionCount, Error> {
        end::count(servers)
    }

    /// Ends the connections of servers and returns their number, or leaves the rules as they were.
    pub fn end_connections(&self, servers: &[ServerFilter]) -> Result<usize, Error> {
        end::end(&mut self.lock(), servers)
    }

    /// Sets the weights of servers to 0, waits until none of their connections is active, at most for the
    /// given time, and ends the rest, of which it returns the number. `progress` can break. After an
    /// error the weights are as they were.
    pub fn drain(
        &self,
        servers: &[ServerFilter],
        wait: Duration,
        progress: &mut dyn FnMut(DrainProgress) -> ControlFlow<()>,
    ) -> Result<usize, Error> {
        drain::drain(self, servers, wait, progress)
    }

    /// A panic in another thread leaves the sockets usable.
    fn lock(&self) -> MutexGuard<'_, IpvsContext> {
        self.context.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IpvsContext {
    /// Returns the kernel's IPVS. Loads the module if the kernel doesn't load it by itself.
    fn ipvs(&mut self) -> Result<&mut IpvsKernel, Error> {
        let kernel = match self.kernel.take() {
            Some(kernel) => kernel,
            None => self.open()?,
        };
        Ok(self.kernel.insert(kernel))
    }

    fn open(&self) -> Result<IpvsKernel, Error> {
        let mut socket = Socket::open(RecvBuffer::Large)?;
        let family = if let Some(family) = Ipvs::resolve(&mut socket)? {
            family
        } else {
            self.modules.load("ip_vs")?;
            Ipvs::resolve(&mut socket)?.ok_or(Error::NoIpvs)?
        };
        Ok(IpvsKernel {
            family,
            socket,
            lists: Socket::open(RecvBuffer::Page)?,
        })
    }

    /// Sends a single change.
    fn send(&mut self, change: &Change) -> Result<(), Error> {
        let ipvs = self.ipvs()?;
        let mut batch = Batch::default();
        ipvs.family.push(&mut batch, change);
        if matches!(change, Change::StopDaemon(_)) {
            // A daemon whose thread has not run yet stops with EINTR, which netlink never reports: the
            // ACK has to be that of another request.
            ipvs.family.push_info(&mut batch);
        }
        let starts_daemon = matches!(change, Change::StartDaemon(_));
        let _privilege = starts_daemon.then(BindPrivilege::raise);
        match ipvs.socket.send(&batch)?.into_iter().next() {
            Some((_, error)) => Err(Error::refused(change, error)),
            None => Ok(()),
        }
    }

    /// Sends deletions of services and servers, of which some may be gone.
    fn delete(&mut self, deletions: &[Change]) -> Result<(), Error> {
        let ipvs = self.ipvs()?;
        let mut batch = Batch::default();
        for change in deletions {
            ipvs.family.push(&mut batch, change);
        }
        let mut errors = ipvs.socket.send(&batch)?.into_iter();
        match errors.find(|(_, error)| !error.is(Errno::ESRCH) && !error.is(Errno::ENOENT)) {
            Some((position, error)) => Err(Error::refused(&deletions[position], error)),
            None => Ok(()),
        }
    }

    /// Loads the scheduler and persistence engine of a service. One without a module can be built in;
    /// otherwise the kernel refuses the service.
    fn load_for(&self, service: &Service) -> Result<(), Error> {
        self.modules.load(&format!("ip_vs_{}", service.scheduler))?;
        if let Some(engine) = &service.engine {
            self.modules.load(&format!("ip_vs_pe_{engine}"))?;
        }
        Ok(())
    }

    /// Lists one service or all, without servers.
    fn services(
        &mut self,
        only: Option<ServiceId>,
        detail: Detail,
    ) -> Result<Vec<ListedService>, Error> {
        let ipvs = self.ipvs()?;
        let Some(id) = only else {
            return Ok(ipvs.family.services(&mut ipvs.socket, detail)?);
        };
        match ipvs.family.service(&mut ipvs.socket, id, detail) {
            Ok(listed) => Ok(vec![listed]),
            Err(patchbay_netlink::Error::Refused(error)) if error.is(Errno::ESRCH) => {
                Err(Error::Conflict(Conflict::NoService(id)))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn servers(&mut self, id: ServiceId, detail: Detail) -> Result<Vec<ListedServer>, Error> {
        let ipvs = self.ipvs()?;
        Ok(ipvs.family.servers(&mut ipvs.lists, id, detail)?)
    }

    /// Reads the rules.
    fn table(&mut self) -> Result<Table, Error> {
        let mut table = Table::default();
        let services = self.services(None, Detail::Rules)?;
        let mut lists = Lists::open(&services, Detail::Rules);
        for ListedService { service, .. } in services {
            if let Some(servers) = lists.of(service.id) {
                table.insert(service, servers);
            } else {
                let servers = self.servers(service.id, Detail::Rules)?;
                table.insert(service, &servers);
            }
        }
        Ok(table)
    }
}
