//! ipvsadm's words to a [`Command`].

use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};

use super::Command;
use super::assemble;
use super::error::Refused;
use super::matrix;
use super::numbers::{self, Resolver};
use super::options::{Key, Row, Verb};
use super::words::{Found, Item, Words};
use patchbay_types::ipvs::{
    Checksum, Engine, Family, Forward, McastGroup, Netmask, NonNegativeInt, Persistence, Protocol,
    Role, Scheduler, ServerId, ServiceId, SyncLen, SyncLink,
};

/// What the words alone don't decide.
#[derive(Clone, Copy)]
pub struct Grammar<'n> {
    /// Names of hosts and ports.
    pub names: &'n dyn Resolver,
    /// How packets reach a server of which that is not said.
    pub forward: Forward,
}

impl std::fmt::Debug for Grammar<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar")
            .field("forward", &self.forward)
            .finish_non_exhaustive()
    }
}

/// Kinds of tunnel as they are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TunnelKind {
    Ipip,
    Gue,
    Gre,
}

/// A line while it is read: values are checked as they come, since some depend on those before.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) command: &'static Row,
    pub(super) seen: Vec<&'static Row>,
    pub(super) plain: Vec<&'a str>,
    pub(super) role: Option<Role>,
    pub(super) service: Option<ServiceId>,
    pub(super) netmask: Option<Netmask>,
    pub(super) scheduler: Option<Scheduler>,
    pub(super) flags: Option<&'a str>,
    pub(super) persistence: Option<Persistence>,
    pub(super) engine: Option<Engine>,
    pub(super) server: Option<ServerId>,
    pub(super) forward: Option<Key>,
    pub(super) weight: Option<NonNegativeInt>,
    pub(super) upper: NonNegativeInt,
    pub(super) lower: NonNegativeInt,
    pub(super) tunnel: Option<TunnelKind>,
    pub(super) tunnel_port: Option<NonZeroU16>,
    pub(super) checksum: Option<Checksum>,
    pub(super) link: Option<SyncLink>,
    pub(super) sync_id: u8,
    pub(super) max_len: Option<SyncLen>,
    pub(super) group: Option<McastGroup>,
    pub(super) port: Option<NonZeroU16>,
    pub(super) ttl: Option<NonZeroU8>,
}

/// Reads one line of ipvsadm's words, without the program's name.
///
/// # Errors
/// The first rule that a word breaks, with the option.
pub fn parse(grammar: &Grammar<'_>, words: &[&str]) -> Result<Command, Refused> {
    let mut items = Words::new(words);
    let mut plain = Vec::new();
    let first = loop {
        match items.next().transpose()? {
            None if plain.is_empty() => break None,
            None => return Err(Refused::NoCommand),
            Some(Item::Plain(word)) => plain.push(word),
            Some(Item::Option(found)) => break Some(found),
        }
    };
    let mut draft = Draft::new(first.as_ref(), plain)?;
    match draft.command.key {
        Key::Verb(Verb::Help) => return Ok(Command::Help),
        Key::Verb(Verb::Version) => return Ok(Command::Version),
        _ => {}
    }
    for item in items {
        match item? {
            Item::Plain(word) => draft.plain.push(word),
            Item::Option(found) => draft.option(grammar, &found)?,
        }
    }
    assemble::command(grammar, &draft)
}

impl<'a> Draft<'a> {
    fn new(first: Option<&Found<'a>>, plain: Vec<&'a str>) -> Result<Self, Refused> {
        let command = match first {
            Some(found) => found.row,
            None => matrix::default_command()?,
        };
        let role = match (command.key, first.and_then(|found| found.value)) {
            (Key::Verb(_), None) => None,
            (Key::Verb(_), Some("master")) => Some(Role::Master),
            (Key::Verb(_), Some("backup")) => Some(Role::Backup),
            (Key::Verb(_), Some(other)) => {
                return Err(Refused::value(command, other, "it is master or backup"));
            }
            _ => return Err(Refused::NoCommand),
        };
        Ok(Self {
            command,
            seen: Vec::new(),
            plain,
            role,
            service: None,
            netmask: None,
            scheduler: None,
            flags: None,
            persistence: None,
            engine: None,
            server: None,
            forward: None,
            weight: None,
            upper: NonNegativeInt::default(),
            lower: NonNegativeInt::default(),
            tunnel: None,
            tunnel_port: None,
            checksum: None,
            link: None,
            sync_id: 0,
            max_len: None,
            group: None,
            port: None,
            ttl: None,
        })
    }

    fn option(&mut self, grammar: &Grammar<'_>, found: &Found<'a>) -> Result<(), Refused> {
        let row = found.row;
        matrix::check_repeated(&self.seen, row)?;
        self.seen.push(row);
        let text = found.value.unwrap_or_default();
        match row.key {
            Key::Verb(_) => return Err(Refused::SecondCommand(row.into())),
            Key::Tcp => self.service(row, text, Protocol::Tcp, grammar.names)?,
            Key::Udp => self.service(row, text, Protocol::Udp, grammar.names)?,
            Key::Sctp => self.service(row, text, Protocol::Sctp, grammar.names)?,
            Key::Mark => self.mark(row, text)?,
            Key::Ipv6 => self.ipv6()?,
            Key::Scheduler if text.is_empty() => {}
            Key::Scheduler => self.scheduler = Some(label(row, Scheduler::cut(text))?),
            Key::SchedFlags => self.flags = Some(text),
            Key::Persistent => self.persistence = Some(persistence(row, found.value)?),
            Key::Netmask => self.netmask = Some(self.mask(row, text, grammar.names)?),
            Key::Engine => self.engine = Some(label(row, Engine::cut(text))?),
            Key::Server => self.server = Some(self.server(row, text, grammar.names)?),
            Key::Gateway | Key::Ipip | Key::Masquerade => self.forward = Some(row.key),
            Key::Weight => self.weight = Some(count(row, text)?),
            Key::Upper => self.upper = count(row, text)?,
            Key::Lower => self.lower = count(row, text)?,
            Key::TunType => self.tunnel = Some(tunnel(row, text)?),
            Key::TunPort => self.tunnel_port = Some(udp_port(row, text)?),
            Key::TunNoCsum => self.checksum(row, Checksum::No)?,
            Key::TunCsum => self.checksum(row, Checksum::Full)?,
            Key::TunRemCsum => self.checksum(row, Checksum::Remote)?,
            Key::McastInterface => self.link = Some(label(row, SyncLink::cut(text))?),
            Key::SyncId => self.sync_id = small(row, text, 0)?,
            Key::SyncMaxLen => self.max_len = Some(sync_len(row, text)?),
            Key::McastGroup => self.group = Some(group(row, text)?),
            Key::McastPort => self.port = Some(udp_port(row, text)?),
            Key::McastTtl => self.ttl = NonZeroU8::new(small(row, text, 1)?),
            // That they were seen is all that they say.
            Key::Ops
            | Key::Connection
            | Key::Numeric
            | Key::Exact
            | Key::Stats
            | Key::Rate
            | Key::Thresholds
            | Key::PersistentConn
            | Key::NoSort
            | Key::Sort
            | Key::TunInfo
            | Key::Timeout
            | Key::Daemon => {}
        }
        Ok(())
    }

    pub(super) fn has(&self, key: Key) -> bool {
        self.seen.iter().any(|row| row.key == key)
    }

    fn service(
        &mut self,
        row: &Row,
        text: &str,
        protocol: Protocol,
        names: &dyn Resolver,
    ) -> Result<(), Refused> {
        let read = || {
            let (address, port) = numbers::address(text, names)?;
            let port = match port {
                Some(port) => numbers::port(port, Some(protocol.name()), names)?,
                None => 0,
            };
            Some((address, port))
        };
        let (address, port) = read().ok_or_else(|| Refused::value(row, text, ADDRESS_RULE))?;
        if Family::of(address) == Family::V6 {
            self.netmask = None;
        }
        self.service = Some(ServiceId::Address {
            protocol,
            address,
            port,
        });
        Ok(())
    }

    fn mark(&mut self, row: &Row, text: &str) -> Result<(), Refused> {
        let mark = numbers::within(text, 1, u32::MAX).and_then(NonZeroU32::new);
        let rule = "a firewall mark is 1 to 4294967295";
        self.service = Some(ServiceId::Mark {
            mark: mark.ok_or_else(|| Refused::value(row, text, rule))?,
            family: Family::V4,
        });
        Ok(())
    }

    fn ipv6(&mut self) -> Result<(), Refused> {
        let Some(ServiceId::Mark { family, .. }) = &mut self.service else {
            return Err(Refused::Ipv6First);
        };
        *family = Family::V6;
        self.netmask = None;
        Ok(())
    }

    /// Before the service an IPv4 mask is read; an IPv6 service forgets it.
    fn mask(&self, row: &Row, text: &str, names: &dyn Resolver) -> Result<Netmask, Refused> {
        match self.service.map(ServiceId::family) {
            Some(Family::V6) => Netmask::prefix(numbers::atoi(text))
                .map_err(|bad| Refused::Value(bad.in_field(row.name()))),
            Some(Family::V4) | None => numbers::host_address(text, names)
                .map(|mask| Netmask::V4(mask.to_bits()))
                .ok_or_else(|| Refused::value(row, text, "an IPv4 mask is like 255.255.255.0")),
        }
    }

    /// Its port is by default that of the service so far.
    fn server(&self, row: &Row, text: &str, names: &dyn Resolver) -> Result<ServerId, Refused> {
        let (protocol, service_port) = match self.service {
            Some(ServiceId::Address { protocol, port, .. }) => (Some(protocol.name()), port),
            Some(ServiceId::Mark { .. }) => (Some(Protocol::Tcp.name()), 0),
            None => (None, 0),
        };
        let read = || {
            let (address, port): (IpAddr, _) = numbers::address(text, names)?;
            let port = match port {
                Some(port) => numbers::port(port, protocol, names)?,
                None => service_port,
            };
            Some(ServerId { address, port })
        };
        read().ok_or_else(|| Refused::value(row, text, ADDRESS_RULE))
    }

    /// At most one of the three.
    fn checksum(&mut self, row: &'static Row, checksum: Checksum) -> Result<(), Refused> {
        let others = [Key::TunNoCsum, Key::TunCsum, Key::TunRemCsum];
        let before = self
            .seen
            .iter()
            .find(|seen| seen.key != row.key && others.contains(&seen.key));
        if let Some(first) = before {
            return Err(Refused::repeated(first, row));
        }
        self.checksum = Some(checksum);
        Ok(())
    }
}

const ADDRESS_RULE: &str = "an address is a.b.c.d[:port], [v6]:port, v6 or host[:port], with a port of 0 to 65535 or a name from the host's files";

fn label<const MAX: usize>(
    row: &Row,
    read: Result<patchbay_types::ipvs::ShortName<MAX>, patchbay_types::InvalidValue>,
) -> Result<patchbay_types::ipvs::ShortName<MAX>, Refused> {
    read.map_err(|bad| Refused::Value(bad.in_field(row.name())))
}

fn persistence(row: &Row, value: Option<&str>) -> Result<Persistence, Refused> {
    let Some(text) = value else {
        return Ok(Persistence::DEFAULT);
    };
    let seconds = numbers::within(text, 0, u32::MAX).map(Persistence::try_from);
    seconds
        .and_then(Result::ok)
        .ok_or_else(|| Refused::value(row, text, "persistence lasts 1 to 2678400 seconds"))
}

fn count(row: &Row, text: &str) -> Result<NonNegativeInt, Refused> {
    let number = numbers::within(text, 0, u32::MAX).map(NonNegativeInt::try_from);
    number
        .and_then(Result::ok)
        .ok_or_else(|| Refused::value(row, text, "it is 0 to 2147483647"))
}

fn tunnel(row: &Row, text: &str) -> Result<TunnelKind, Refused> {
    match text {
        "ipip" => Ok(TunnelKind::Ipip),
        "gue" => Ok(TunnelKind::Gue),
        "gre" => Ok(TunnelKind::Gre),
        _ => Err(Refused::value(row, text, "it is ipip, gue or gre")),
    }
}

fn udp_port(row: &Row, text: &str) -> Result<NonZeroU16, Refused> {
    let port = numbers::within(text, 1, 65535).and_then(|port| u16::try_from(port).ok());
    port.and_then(NonZeroU16::new)
        .ok_or_else(|| Refused::value(row, text, "a UDP port is 1 to 65535"))
}

fn small(row: &Row, text: &str, low: u32) -> Result<u8, Refused> {
    let number = numbers::within(text, low, 255).and_then(|number| u8::try_from(number).ok());
    number.ok_or_else(|| Refused::value(row, text, format!("it is {low} to 255")))
}

fn sync_len(row: &Row, text: &str) -> Result<SyncLen, Refused> {
    let length = numbers::within(text, 0, u32::MAX).map(SyncLen::try_from);
    length
        .and_then(Result::ok)
        .ok_or_else(|| Refused::value(row, text, "a sync message has 1 to 65507 bytes"))
}

fn group(row: &Row, text: &str) -> Result<McastGroup, Refused> {
    let ip = if text.contains(':') {
        text.parse().ok()
    } else {
        numbers::inet_aton(text).map(IpAddr::V4)
    };
    ip.and_then(|ip| McastGroup::try_from(ip).ok())
        .ok_or_else(|| Refused::value(row, text, "a sync group is a multicast address"))
}
