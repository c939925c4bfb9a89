//! IPVS by its generic netlink family: domain types to attributes and back.
//!
//! The kernel checks little of what it is told (protocols, ports, flags and ways of forwarding that
//! do not exist are all taken), so only values that the domain types can hold are sent.

mod consts;
mod decode;
mod encode;
mod proc;
mod sockopt;
pub mod sysctl;

use patchbay_types::ipvs::{Change, Daemon, ListedServer, ListedService, ServiceId, Status};

use patchbay_netlink::genl::FamilyId;
use patchbay_netlink::{Batch, Error, Generic, Transport, dump};

pub use proc::{connections, count_rules};
pub use sockopt::OldLists;
#[cfg(fuzzing)]
pub(crate) use {proc::connection_row, sockopt::entries};

/// The family on this kernel.
#[derive(Debug, Clone, Copy)]
pub struct Ipvs(FamilyId);

impl Ipvs {
    /// Asks for the family; `None` where the kernel has none, or not yet.
    pub fn resolve(kernel: &mut impl Transport<Generic>) -> Result<Option<Self>, Error> {
        match FamilyId::resolve(kernel, consts::FAMILY) {
            Ok(id) => Ok(Some(Self(id))),
            Err(Error::Refused(refusal)) if refusal.is(nix::errno::Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Appends the request for a change to a batch.
    pub fn push(self, batch: &mut Batch<Generic>, change: &Change) {
        encode::change(self.0, batch, change);
    }

    /// Every service, in the kernel's order and without its servers.
    pub fn services(
        self,
        kernel: &mut impl Transport<Generic>,
    ) -> Result<Vec<ListedService>, Error> {
        let request = self.0.dump(consts::CMD_GET_SERVICE, |_| {});
        dump(kernel, &request, |payload| {
            decode::service(payload).map(Some)
        })
    }

    /// One service, without its servers.
    ///
    /// # Errors
    /// ESRCH as a refusal where there is none.
    pub fn service(
        self,
        kernel: &mut impl Transport<Generic>,
        id: ServiceId,
    ) -> Result<ListedService, Error> {
        let request = self
            .0
            .request(consts::CMD_GET_SERVICE, |body| encode::which(body, id));
        one(kernel, &request, decode::service)
    }

    /// The servers of a service, in the kernel's order; none where there is no such service.
    pub fn servers(
        self,
        kernel: &mut impl Transport<Generic>,
        id: ServiceId,
    ) -> Result<Vec<ListedServer>, Error> {
        let request = self
            .0
            .dump(consts::CMD_GET_DEST, |body| encode::which(body, id));
        dump(kernel, &request, |payload| {
            decode::server(payload, id.family()).map(Some)
        })
    }

    /// Version, timeouts and daemons.
    pub fn status(self, kernel: &mut impl Transport<Generic>) -> Result<Status, Error> {
        let request = self.0.request(consts::CMD_GET_INFO, |_| {});
        let (version, table_size) = one(kernel, &request, decode::info)?;
        let request = self.0.request(consts::CMD_GET_CONFIG, |_| {});
        let timeouts = one(kernel, &request, decode::timeouts)?;
        let request = self.0.dump(consts::CMD_GET_DAEMON, |_| {});
        let mut daemons: Vec<Daemon> = dump(kernel, &request, |payload| {
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

/// The one answer to a question.
fn one<T>(
    kernel: &mut impl Transport<Generic>,
    request: &Batch<Generic>,
    parse: impl Fn(&[u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut found = None;
    kernel.dump(request, &mut |payload| {
        found = Some(parse(payload)?);
        Ok(())
    })?;
    found.ok_or(Error::Malformed("a question has no answer"))
}
