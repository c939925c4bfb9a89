//! Errors of IPVS operations.

use std::num::NonZeroU32;
use std::time::Duration;

use nix::errno::Errno;
use patchbay_types::FieldError;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{
    AddrPort, Change, Conflict, Peer, Reading, ServerId, ServiceId, Sysctl, Target, TooManyRules,
};

use crate::cancellation::Cancelled;
use crate::modules;
use patchbay_netlink::KernelError;

/// Failure of an IPVS operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no IPVS, neither built in nor as a module.
    #[error("this guest's kernel has no IPVS (module ip_vs)")]
    NoIpvs,
    /// A module exists and can't be loaded.
    #[error(transparent)]
    Module(#[from] modules::Error),
    /// The netlink socket failed, or the kernel refused a dump or get.
    #[error("IPVS netlink request failed")]
    Netlink(#[from] patchbay_netlink::Error),
    /// A table in `/proc` could not be read.
    #[error("could not read the IPVS tables in /proc")]
    Proc(#[source] std::io::Error),
    /// The kernel doesn't have the setting.
    #[error("this guest's kernel has no setting {}", .0.full_name())]
    NoSysctl(Sysctl),
    /// The setting could not be read or changed.
    #[error("the kernel refused {}", .0.full_name())]
    Sysctl(Sysctl, #[source] std::io::Error),
    /// The setting has another value than the one written.
    #[error("the kernel set {} to {}", .0.sysctl.full_name(), .0.value)]
    OtherValue(Reading),
    /// The kernel refused a change.
    #[error("could not {step}: {reason}")]
    Refused {
        /// Description of the change.
        step: String,
        /// Explanation of the errno.
        reason: String,
        /// Kind of the failure.
        kind: Kind,
        /// Positive errno; IPVS sends no extended ACKs.
        errno: i32,
    },
    /// A rule conflicts with earlier ones.
    #[error("{0}")]
    Conflict(Conflict),
    /// Error of a line of the rule file.
    #[error("line {line}: {source}")]
    Line {
        /// Line number, from 1.
        line: NonZeroU32,
        /// Its error.
        source: Box<Error>,
    },
    /// The table would exceed the limit.
    #[error(transparent)]
    TooMany(#[from] TooManyRules),
    /// The request is invalid, though the host should have checked it.
    #[error(transparent)]
    Request(#[from] FieldError),
    /// The table already has this number of services and servers.
    #[error(
        "there are {0} rules already: clear them first (-C), or restore with --replace or --merge"
    )]
    NotEmpty(usize),
    /// The undo log could not be read, written or removed.
    #[error("could not access the IPVS undo log")]
    UndoLog(#[source] std::io::Error),
    /// No server of the table matches, and no connection of a deleted one.
    #[error("there is no server {0} in the IPVS table, and no connection of one")]
    NoServer(Target),
    /// Connections of other deleted servers would end too.
    #[error(
        "{0} connections of other servers that were deleted before would end too, one of {server}: \
         name those servers as well, or add them again first",
        server = AddrPort(.1.address, .1.port)
    )]
    OtherConnections(usize, Peer),
    /// Connections did not end.
    #[error(
        "{0} connections did not end in {1:?}; Linux before 5.9 ends them with their next packet"
    )]
    Connections(usize, Duration),
    /// The connection table takes too long to read.
    #[error("the connection table is too large to be read in {0:?}")]
    LargeTable(Duration),
    /// No log for another drain.
    #[error("too many servers are drained at the same time: repeat it when a drain has ended")]
    ManyDrains,
    /// Another drain will set the server's weight when it ends.
    #[error("the server {1} of {0} is being drained: repeat it when that drain has ended")]
    Draining(ServiceId, ServerId),
    /// The host has closed the connection during a drain.
    #[error("the host has disconnected")]
    Disconnected,
    /// The rule file has no rules.
    #[error("the rule file has no effective rule")]
    NoRules,
    /// The host has cancelled the request.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A request failed, and its rollback failed too.
    #[error("{first}")]
    NotUndone {
        /// Error of the request.
        first: Box<Error>,
        /// Error of the rollback.
        undo: Box<Error>,
    },
}

impl Error {
    /// Adds the line of the rule file, if the change is from one.
    pub(super) fn at_line(self, line: Option<NonZeroU32>) -> Self {
        match line {
            Some(line) => Self::Line {
                line,
                source: Box::new(self),
            },
            None => self,
        }
    }

    /// Returns this error of a request, with that of its rollback if that failed too.
    pub(super) fn after_undo<T>(self, undone: Result<T, Self>) -> Self {
        match undone {
            Ok(_) => self,
            Err(undo) => Self::NotUndone {
                first: self.into(),
                undo: undo.into(),
            },
        }
    }

    /// Explains the kernel's error for a change.
    pub(super) fn refused(change: &Change, KernelError { errno, .. }: KernelError) -> Self {
        let (kind, reason) = explain(change, errno);
        Self::Refused {
            step: step(change),
            reason,
            kind,
            errno,
        }
    }

    /// Returns the kind, and the errno if the kernel refused the request.
    fn cause(&self) -> (Kind, Option<i32>) {
        let kind = match self {
            Self::Netlink(patchbay_netlink::Error::Refused(KernelError { errno, .. })) => {
                return (Kind::from_errno(*errno), Some(*errno));
            }
            Self::Refused { kind, errno, .. } => return (*kind, Some(*errno)),
            Self::Line { source, .. } | Self::NotUndone { first: source, .. } => {
                return source.cause();
            }
            Self::Cancelled(cancelled) => {
                let failure = Failure::from(*cancelled);
                return (failure.kind(), failure.errno());
            }
            Self::NoIpvs | Self::NoSysctl(_) => Kind::Unsupported,
            Self::Sysctl(_, source) => source.raw_os_error().map_or(Kind::Other, Kind::from_errno),
            Self::Module(_)
            | Self::Netlink(_)
            | Self::Proc(_)
            | Self::UndoLog(_)
            | Self::Disconnected => Kind::Other,
            Self::OtherValue(_) => Kind::Kernel,
            Self::NoServer(_) => Kind::NotFound,
            Self::OtherConnections(..) | Self::ManyDrains | Self::Draining(..) => Kind::NotYet,
            Self::Connections(..) | Self::LargeTable(_) => Kind::Timeout,
            Self::Conflict(conflict) => conflict.kind(),
            Self::NotEmpty(_) => Kind::Exists,
            Self::TooMany(_) | Self::Request(_) | Self::NoRules => Kind::Invalid,
        };
        (kind, None)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (kind, errno) = error.cause();
        let failure = match &error {
            // The message of a line includes its source.
            Error::Line { .. } => Failure::new(kind, error.to_string()),
            Error::NotUndone { undo, .. } => {
                Failure::of(kind, &error).with_cause(format!("and it could not be undone: {undo}"))
            }
            _ => Failure::of(kind, &error),
        };
        errno.into_iter().fold(failure, Failure::with_errno)
    }
}

/// Describes a change, for messages of the form "could not ...".
fn step(change: &Change) -> String {
    match change {
        Change::AddService(service) => format!("add the service {}", service.id),
        Change::EditService(service) => format!("edit the service {}", service.id),
        Change::DeleteService(id) => format!("delete the service {id}"),
        Change::Clear => "clear the table".to_owned(),
        Change::AddServer(of, server) => format!("add the server {} to {of}", server.id),
        Change::EditServer(of, server) => format!("edit the server {} of {of}", server.id),
        Change::DeleteServer(of, server) => format!("delete the server {server} of {of}"),
        Change::Zero(Some(id)) => format!("zero the counters of {id}"),
        Change::Zero(None) => "zero the counters".to_owned(),
        Change::SetTimeouts(_) => "set the timeouts".to_owned(),
        Change::StartDaemon(daemon) => format!("start the {} sync daemon", daemon.role.name()),
        Change::StopDaemon(which) => format!("stop the {} sync daemon", which.name()),
    }
}

/// Explains an errno for a change.
fn explain(change: &Change, errno: i32) -> (Kind, String) {
    use Change::{AddServer, AddService, EditServer, EditService, StartDaemon, StopDaemon};
    let (kind, reason) = match (Errno::from_raw(errno), change) {
        (Errno::ENOENT, AddService(service) | EditService(service)) => {
            let scheduler = &service.scheduler;
            // The kernel has one number for both.
            let engine = service.engine.as_ref();
            let engine = engine.map_or_else(String::new, |engine| {
                format!(" or the persistence engine {engine}")
            });
            let reason = format!("this kernel does not have the scheduler {scheduler}{engine}");
            return (Kind::Unsupported, reason);
        }
        (Errno::ENODEV, StartDaemon(daemon)) => {
            return (Kind::NotFound, format!("there is no link {}", daemon.link));
        }
        (Errno::EEXIST, StartDaemon(_)) => (Kind::Exists, "it is already running"),
        (Errno::EEXIST, _) => (Kind::Exists, "it exists"),
        (Errno::ESRCH, StopDaemon(_)) => (Kind::NotFound, "it is not running"),
        (Errno::ESRCH, _) => (Kind::NotFound, "there is no such service"),
        (Errno::ENOENT, _) => (Kind::NotFound, "there is no such server"),
        (Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP, _) => (
            Kind::Unsupported,
            "this kernel's IPVS does not support IPv6",
        ),
        (Errno::EINVAL, AddServer(..) | EditServer(..)) => (
            Kind::Invalid,
            "its address is not unicast, or its family differs from that of the service, which \
            requires a tunnel and no sync daemon",
        ),
        (Errno::EINVAL, StartDaemon(_)) => (
            Kind::Invalid,
            "a real server has a different address family from its service, or the interface does \
            not support the multicast group",
        ),
        (Errno::EINVAL, AddService(_) | EditService(_)) => {
            (Kind::Invalid, "the kernel does not accept such a service")
        }
        (other, _) => (Kind::from_errno(errno), other.desc()),
    };
    (kind, reason.to_owned())
}
