//! IPVS: its generic netlink family, its older socket options, and its files in `/proc`.
//!
//! The kernel validates little (it accepts unknown protocols, ports, flags and forwarding methods),
//! so requests are built from domain types only.
//!
//! ```no_run
//! use patchbay_netcfg::ipvs::Ipvs;
//! use patchbay_netlink::{RecvBuffer, Socket};
//! use patchbay_types::ipvs::Detail;
//!
//! let mut socket = Socket::open(RecvBuffer::Large)?;
//! if let Some(ipvs) = Ipvs::resolve(&mut socket)? {
//!     for listed in ipvs.services(&mut socket, Detail::Rules)? {
//!         println!("{} {}", listed.service.id, listed.service.scheduler);
//!     }
//! }
//! # Ok::<(), patchbay_netlink::Error>(())
//! ```

mod consts;
mod decode;
mod dest;
mod encode;
mod lists;
mod proc;
mod proc_lists;
mod read_ahead;
mod sockopt;
pub mod sysctl;

use patchbay_types::ipvs::{
    Change, Daemon, Detail, ListedServer, ListedService, ServiceId, Status,
};

use patchbay_netlink::genl::FamilyId;
use patchbay_netlink::{Batch, Error, Generic, Transport, dump, get};

pub use lists::Lists;
pub use proc::{connections, count_rules};
pub use sockopt::SockoptLists;
#[cfg(feature = "fuzzing")]
pub(crate) use {proc::connection, sockopt::entries};

/// IPVS family of the running kernel.
#[derive(Debug, Clone, Copy)]
pub struct Ipvs(FamilyId);

impl Ipvs {
    /// Looks up the family; `None` if the kernel has no IPVS or its module isn't loaded.
    pub fn resolve(socket: &mut impl Transport<Generic>) -> Result<Option<Self>, Error> {
        match FamilyId::resolve(socket, consts::FAMILY) {
            Ok(id) => Ok(Some(Self(id))),
            Err(Error::Refused(error)) if error.is(nix::errno::Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Appends the request for a change to a batch.
    pub fn push(self, batch: &mut Batch<Generic>, change: &Change) {
        encode::change(self.0, batch, change);
    }

    /// Appends a request that changes nothing.
    pub fn push_info(self, batch: &mut Batch<Generic>) {
        self.0.push(batch, consts::CMD_GET_INFO, |_| {});
    }

    /// Lists the services in the kernel's order, without their servers.
    pub fn services(
        self,
        socket: &mut impl Transport<Generic>,
        detail: Detail,
    ) -> Result<Vec<ListedService>, Error> {
        let request = self.0.dump(consts::CMD_GET_SERVICE, |_| {});
        dump(socket, &request, |payload| {
            decode::service(payload, detail).map(Some)
        })
    }

    /// Gets a service, without its servers.
    ///
    /// # Errors
    /// Fails with ESRCH if there is no such service.
    pub fn service(
        self,
        socket: &mut impl Transport<Generic>,
        id: ServiceId,
        detail: Detail,
    ) -> Result<ListedService, Error> {
        let request = self
            .0
            .request(consts::CMD_GET_SERVICE, |body| encode::identify(body, id));
        get(socket, &request, |payload| decode::service(payload, detail))
    }

    /// Lists the servers of a service in the kernel's order; empty if there is no such service.
    pub fn servers(
        self,
        socket: &mut impl Transport<Generic>,
        id: ServiceId,
        detail: Detail,
    ) -> Result<Vec<ListedServer>, Error> {
        let request = self
            .0
            .dump(consts::CMD_GET_DEST, |body| encode::identify(body, id));
        dump(socket, &request, |payload| {
            dest::decode(payload, id.family(), detail).map(Some)
        })
    }

    /// Gets the version, timeouts and daemons.
    pub fn status(self, socket: &mut impl Transport<Generic>) -> Result<Status, Error> {
        let request = self.0.request(consts::CMD_GET_INFO, |_| {});
        let (version, table_size) = get(socket, &request, decode::info)?;
        let request = self.0.request(consts::CMD_GET_CONFIG, |_| {});
        let timeouts = get(socket, &request, decode::timeouts)?;
        let request = self.0.dump(consts::CMD_GET_DAEMON, |_| {});
        let mut daemons: Vec<Daemon> = dump(socket, &request, |payload| {
            decode::daemon(payload).map(Some)
        })?;
        daemons.sort_by_key(|daemon| daemon.role);
        Ok(Status {
            version,
            table_size,
            timeouts,
            daemons,
        })
    }
}
