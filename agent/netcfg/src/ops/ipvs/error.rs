//! Why a request about IPVS was not carried out.

use std::num::NonZeroU32;

use nix::errno::Errno;
use patchbay_types::FieldError;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{Change, Conflict, Role, Scheduler, Sysctl, TooManyRules};

use crate::modules;
use patchbay_netlink::KernelError;

/// Why a request about IPVS was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither built in nor a module.
    #[error("this guest's kernel has no IPVS (module ip_vs)")]
    NoIpvs,
    /// A module is there, but does not load.
    #[error(transparent)]
    Module(#[from] modules::Error),
    /// The transport to the kernel failed.
    #[error("the kernel could not be asked")]
    Netlink(#[from] patchbay_netlink::Error),
    /// `/proc` could not be read.
    #[error("could not read IPVS's tables in /proc")]
    Proc(#[source] std::io::Error),
    /// The kernel has no such setting.
    #[error("this guest's kernel has no setting net.ipv4.vs.{}", .0.name())]
    NoSysctl(Sysctl),
    /// The kernel refused a setting, or its file could not be read.
    #[error("the kernel refused net.ipv4.vs.{}", .0.name())]
    Sysctl(Sysctl, #[source] std::io::Error),
    /// The kernel refused a change.
    #[error("could not {step}: {reason}")]
    Refused {
        /// What.
        step: String,
        /// Why, in words for people.
        reason: String,
        /// What sort of refusal.
        kind: Kind,
        /// The kernel's word.
        refusal: KernelError,
    },
    /// A rule contradicts those before.
    #[error("{0}")]
    Conflict(Conflict),
    /// A line of a rule file is at fault.
    #[error("line {line}: {source}")]
    Line {
        /// Counted from 1.
        line: NonZeroU32,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// Too many rules.
    #[error(transparent)]
    TooMany(#[from] TooManyRules),
    /// The host sent something that it should have refused.
    #[error(transparent)]
    Request(#[from] FieldError),
    /// Rules are there already.
    #[error(
        "there are {rules} rules already: clear them first (-C), or restore with --replace or --merge"
    )]
    NotEmpty {
        /// Netcfg and servers.
        rules: usize,
    },
    /// The undo log can't be written, or not be read.
    #[error("could not keep what leads back should the agent be killed")]
    UndoLog(#[source] std::io::Error),
    /// Nothing to do.
    #[error("the rule file has no effective rule")]
    NoRules,
    /// A request failed, and so did undoing it.
    #[error("{first}")]
    NotUndone {
        /// Why the request failed.
        first: Box<Error>,
        /// Why undoing did.
        undo: Box<Error>,
    },
}

impl Error {
    /// Names the line of a rule file, if it came from one.
    pub(super) fn at_line(self, line: Option<NonZeroU32>) -> Self {
        match line {
            Some(line) => Self::Line {
                line,
                source: Box::new(self),
            },
            None => self,
        }
    }

    /// The kernel's refusal of a change, in words for people.
    pub(super) fn refused(change: &Change, refusal: KernelError) -> Self {
        let (kind, reason) = explain(change, &refusal);
        Self::Refused {
            step: step(change),
            reason,
            kind,
            refusal,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::NoIpvs | Self::NoSysctl(_) => Kind::Unsupported,
            Self::Netlink(patchbay_netlink::Error::Refused(refusal)) => {
                Kind::from_errno(refusal.errno)
            }
            Self::Sysctl(_, source) => source.raw_os_error().map_or(Kind::Other, Kind::from_errno),
            Self::Module(_) | Self::Netlink(_) | Self::Proc(_) | Self::UndoLog(_) => Kind::Other,
            Self::Refused { kind, .. } => *kind,
            Self::Conflict(clash) => clash.kind(),
            Self::Line { source, .. } => source.kind(),
            Self::NotEmpty { .. } => Kind::Exists,
            Self::TooMany(_) | Self::Request(_) | Self::NoRules => Kind::Invalid,
            Self::NotUndone { first, .. } => first.kind(),
        }
    }

    fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { refusal, .. }
            | Self::Netlink(patchbay_netlink::Error::Refused(refusal)) => Some(refusal.errno),
            Self::Line { source, .. } | Self::NotUndone { first: source, .. } => source.errno(),
            _ => None,
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let failure = match error {
            // A line's sentence holds its source's.
            Error::Line { .. } => Failure::new(error.kind(), error.to_string()),
            _ => Failure::of(error.kind(), error),
        };
        let failure = match error.errno() {
            Some(errno) => failure.with_errno(errno),
            None => failure,
        };
        match error {
            Error::NotUndone { undo, .. } => {
                failure.with_cause(format!("and it could not be undone: {undo}"))
            }
            _ => failure,
        }
    }
}

/// What a change does, for the sentence that says where it stopped.
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
        Change::StartDaemon(daemon) => format!("start the {} sync daemon", role(daemon.role)),
        Change::StopDaemon(which) => format!("stop the {} sync daemon", role(*which)),
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Master => "master",
        Role::Backup => "backup",
    }
}

/// What an errno means for this change: IPVS gives no sentence of its own.
fn explain(change: &Change, refusal: &KernelError) -> (Kind, String) {
    let plain = |kind, text: &str| (kind, text.to_owned());
    let about_service = matches!(change, Change::AddService(_) | Change::EditService(_));
    match (Errno::from_raw(refusal.errno), change) {
        (Errno::EEXIST, Change::StartDaemon(_)) => plain(Kind::Exists, "it runs already"),
        (Errno::EEXIST, _) => plain(Kind::Exists, "it exists"),
        (Errno::ENOENT, Change::AddService(service) | Change::EditService(service)) => {
            (Kind::Unsupported, no_scheduler(&service.scheduler))
        }
        (Errno::ENODEV, Change::StartDaemon(daemon)) => {
            (Kind::NotFound, format!("there is no link {}", daemon.link))
        }
        (Errno::ESRCH, Change::StopDaemon(_)) => plain(Kind::NotFound, "it does not run"),
        (Errno::ESRCH, _) => plain(Kind::NotFound, "there is no such service"),
        (Errno::ENOENT, _) => plain(Kind::NotFound, "there is no such server"),
        (Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP, _) => {
            plain(Kind::Unsupported, "this kernel's IPVS has no IPv6")
        }
        (Errno::EINVAL, Change::AddServer(..) | Change::EditServer(..)) => plain(
            Kind::Invalid,
            "its address is not unicast, or its family does not go with the service and the sync daemons",
        ),
        (Errno::EINVAL, Change::StartDaemon(_)) => plain(
            Kind::Invalid,
            "a server of another family than its service and sync daemons exclude each other, or the link can't carry the group",
        ),
        (Errno::EINVAL, _) if about_service => {
            plain(Kind::Invalid, "the kernel takes no such service")
        }
        (errno, _) => (Kind::from_errno(refusal.errno), errno.desc().to_owned()),
    }
}

fn no_scheduler(scheduler: &Scheduler) -> String {
    format!("this kernel has no scheduler {scheduler}, or not the persistence engine")
}
