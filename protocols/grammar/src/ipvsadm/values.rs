//! Values of the options of a command line, by option group.

use std::num::NonZeroU16;

use patchbay_types::ipvs::{
    Checksum, Daemon, Engine, Forward, Netmask, NonNegativeInt, Persistence, Role, Scheduler,
    Scheduling, ServerId, ServiceId, ShortName,
};

use super::command::{Format, TableView, View};
use crate::spelling::Spelling;
use crate::{NoNames, ParseError, Resolver};

/// Parameters of the grammar.
#[derive(Debug, Clone, Copy)]
pub struct Grammar<'n> {
    /// Names of hosts and ports.
    pub names: &'n dyn Resolver,
    /// Forwarding method of a server for which the line has none.
    pub forward: Forward,
}

impl Grammar<'static> {
    /// ipvsadm's grammar of rule files, with numbers only.
    pub const NUMERIC: Self = Self {
        names: &NoNames,
        forward: Forward::Route,
    };
}

/// Values of the options so far.
pub(super) struct Values<'a> {
    pub(super) grammar: Grammar<'a>,
    /// Words that are not options or their values.
    pub(super) words: Vec<&'a str>,
    pub(super) id: Option<ServiceId>,
    pub(super) service: ServiceValues<'a>,
    pub(super) server: ServerValues,
    pub(super) view: fn(TableView) -> View,
    pub(super) table: TableView,
    pub(super) daemon: Daemon,
}

/// Values of the options of a virtual service.
#[derive(Default)]
pub(super) struct ServiceValues<'a> {
    pub(super) scheduler: Option<Scheduler>,
    pub(super) persistence: Option<Persistence>,
    pub(super) netmask: Option<Netmask>,
    pub(super) engine: Option<Engine>,
    pub(super) scheduling: Scheduling,
    /// Parsed at the end, since the names are the scheduler's.
    pub(super) flags: &'a str,
}

/// Values of the options of a real server.
#[derive(Default)]
pub(super) struct ServerValues {
    pub(super) id: Option<ServerId>,
    /// For `-i`, the tunnel is known at the end only.
    pub(super) forward: Option<Forward>,
    pub(super) weight: Option<NonNegativeInt>,
    pub(super) tunnel: Option<(Spelling, TunnelKind)>,
    pub(super) tunnel_port: Option<(Spelling, NonZeroU16)>,
    pub(super) checksum: Option<(Spelling, Checksum)>,
    pub(super) upper: NonNegativeInt,
    pub(super) lower: NonNegativeInt,
    pub(super) port: PortRule,
}

/// Port of a server whose forwarding method can't change ports.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum PortRule {
    /// The service's, as in ipvsadm.
    #[default]
    Service,
    /// `--keep-port`
    Own,
}

/// Value of `--tun-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TunnelKind {
    Ipip,
    Gue,
    Gre,
}

impl<'a> Values<'a> {
    pub(super) fn new(grammar: Grammar<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            grammar,
            words: Vec::new(),
            id: None,
            service: ServiceValues::default(),
            server: ServerValues::default(),
            view: View::Table,
            table: TableView::default(),
            daemon: default_daemon()?,
        })
    }

    pub(super) fn service_id(&self, command: Spelling) -> Result<ServiceId, ParseError> {
        let needed = "a service: -t, -u, --sctp-service or -f";
        self.id.ok_or(ParseError::Needs(command, needed))
    }

    /// Selects the columns; of several options, the first of [`Format`] wins.
    pub(super) fn show(&mut self, format: Format) {
        self.table.format = self.table.format.min(format);
    }
}

/// Link of a sync daemon without a name.
pub(super) const DEFAULT_LINK: &str = "eth0";

/// The daemon of `--start-daemon` without options. The role is that command's value.
fn default_daemon() -> Result<Daemon, ParseError> {
    Ok(Daemon {
        role: Role::Master,
        link: default_name("--mcast-interface", DEFAULT_LINK)?,
        sync_id: 0,
        max_len: None,
        group: None,
        port: None,
        ttl: None,
    })
}

/// Parses the default of an option.
pub(super) fn default_name<const MAX: usize>(
    option: &str,
    text: &str,
) -> Result<ShortName<MAX>, ParseError> {
    let name = text.parse::<ShortName<MAX>>();
    name.map_err(|bad| ParseError::Value(bad.in_field(option)))
}
