//! Changes of the IPVS table, lines of rule files, sync daemons and timeouts.

use std::num::{NonZeroU8, NonZeroU16};

use super::reader::{put_number, put_optional_ip, put_text, put_u16, strange};
use super::{Layered, Packed, Reader};
use patchbay_types::ipvs::{
    Change, Daemon, McastGroup, Role, RuleLine, Server, ServerId, Service, ServiceId, SyncLen,
    Timeouts,
};
use patchbay_types::{FieldError, InvalidValue};

/// Layout that this build writes where layout 0 doesn't suffice. It has the bytes of layout 0, whose
/// readers set a server's port to that of its service unless it is forwarded to by NAT, and can't undo
/// the start of a sync daemon in a rule file.
pub(crate) const LAYOUT: u32 = 1;

/// Additions of each layout, from 1.
pub(crate) const ADDITIONS: [&str; LAYOUT as usize] =
    ["ports of servers that are not forwarded to by NAT, sync daemons in rule files"];

/// Tags of changes.
mod tag {
    pub(super) const ADD_SERVICE: u8 = 1;
    pub(super) const EDIT_SERVICE: u8 = 2;
    pub(super) const DELETE_SERVICE: u8 = 3;
    pub(super) const CLEAR: u8 = 4;
    pub(super) const ADD_SERVER: u8 = 5;
    pub(super) const EDIT_SERVER: u8 = 6;
    pub(super) const DELETE_SERVER: u8 = 7;
    pub(super) const ZERO: u8 = 8;
    pub(super) const ZERO_ALL: u8 = 9;
    pub(super) const SET_TIMEOUTS: u8 = 10;
    pub(super) const START_DAEMON: u8 = 11;
    pub(super) const STOP_DAEMON: u8 = 12;
}

fn service(reader: &mut Reader<'_>) -> Result<Service, FieldError> {
    let service = Service::unpack(reader)?;
    let id = service.id;
    service
        .checked()
        .map_err(|rule| InvalidValue::new(&id, rule.to_string()).in_field("service"))
}

fn server(reader: &mut Reader<'_>) -> Result<(ServiceId, Server), FieldError> {
    let (of, server) = (ServiceId::unpack(reader)?, Server::unpack(reader)?);
    let checked = server.of(of);
    let checked = checked
        .map_err(|rule| InvalidValue::new(&server.id, rule.to_string()).in_field("server"))?;
    Ok((of, checked))
}

fn tag_of(change: &Change) -> u8 {
    match change {
        Change::AddService(_) => tag::ADD_SERVICE,
        Change::EditService(_) => tag::EDIT_SERVICE,
        Change::DeleteService(_) => tag::DELETE_SERVICE,
        Change::Clear => tag::CLEAR,
        Change::AddServer(..) => tag::ADD_SERVER,
        Change::EditServer(..) => tag::EDIT_SERVER,
        Change::DeleteServer(..) => tag::DELETE_SERVER,
        Change::Zero(Some(_)) => tag::ZERO,
        Change::Zero(None) => tag::ZERO_ALL,
        Change::SetTimeouts(_) => tag::SET_TIMEOUTS,
        Change::StartDaemon(_) => tag::START_DAEMON,
        Change::StopDaemon(_) => tag::STOP_DAEMON,
    }
}

impl Packed for Change {
    fn pack(&self, out: &mut Vec<u8>) {
        out.push(tag_of(self));
        match self {
            Self::AddService(service) | Self::EditService(service) => service.pack(out),
            Self::DeleteService(id) | Self::Zero(Some(id)) => id.pack(out),
            Self::Clear | Self::Zero(None) => {}
            Self::AddServer(of, server) | Self::EditServer(of, server) => {
                of.pack(out);
                server.pack(out);
            }
            Self::DeleteServer(of, server) => {
                of.pack(out);
                server.pack(out);
            }
            Self::SetTimeouts(timeouts) => timeouts.pack(out),
            Self::StartDaemon(daemon) => daemon.pack(out),
            Self::StopDaemon(role) => role.pack(out),
        }
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        Ok(match reader.byte("change")? {
            tag::ADD_SERVICE => Self::AddService(service(reader)?),
            tag::EDIT_SERVICE => Self::EditService(service(reader)?),
            tag::DELETE_SERVICE => Self::DeleteService(ServiceId::unpack(reader)?),
            tag::CLEAR => Self::Clear,
            tag::ADD_SERVER => {
                let (of, server) = server(reader)?;
                Self::AddServer(of, server)
            }
            tag::EDIT_SERVER => {
                let (of, server) = server(reader)?;
                Self::EditServer(of, server)
            }
            tag::DELETE_SERVER => {
                Self::DeleteServer(ServiceId::unpack(reader)?, ServerId::unpack(reader)?)
            }
            tag::ZERO => Self::Zero(Some(ServiceId::unpack(reader)?)),
            tag::ZERO_ALL => Self::Zero(None),
            tag::SET_TIMEOUTS => Self::SetTimeouts(Timeouts::unpack(reader)?),
            tag::START_DAEMON => Self::StartDaemon(Daemon::unpack(reader)?),
            tag::STOP_DAEMON => Self::StopDaemon(Role::unpack(reader)?),
            number => return Err(strange(number, "there is no such change", "change")),
        })
    }
}

impl Layered for Change {
    fn layout(&self) -> u32 {
        match self {
            Self::AddServer(of, server) | Self::EditServer(of, server) => {
                u32::from(*server != server.at_port_of(*of))
            }
            _ => 0,
        }
    }
}

impl Layered for RuleLine {
    fn layout(&self) -> u32 {
        match &self.change {
            Change::StartDaemon(_) | Change::StopDaemon(_) => LAYOUT,
            change => change.layout(),
        }
    }
}

impl Packed for RuleLine {
    fn pack(&self, out: &mut Vec<u8>) {
        put_number(out, self.number);
        self.change.pack(out);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            number: reader.u32("line")?,
            change: Change::unpack(reader)?,
        })
    }
}

impl Packed for Timeouts {
    fn pack(&self, out: &mut Vec<u8>) {
        for seconds in self.seconds() {
            put_number(out, seconds);
        }
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let mut seconds = || reader.u32("timeouts");
        Self::new(seconds()?, seconds()?, seconds()?).map_err(|bad| bad.in_field("timeouts"))
    }
}

impl Packed for Role {
    fn pack(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        match reader.byte("role")? {
            1 => Ok(Self::Master),
            2 => Ok(Self::Backup),
            number => {
                let rule = "a sync daemon is a master (1) or a backup (2)";
                Err(strange(number, rule, "role"))
            }
        }
    }
}

impl Packed for Daemon {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self {
            role,
            link,
            sync_id,
            max_len,
            group,
            port,
            ttl,
        } = self;
        role.pack(out);
        put_text(out, link.as_str());
        out.push(*sync_id);
        put_u16(out, max_len.map_or(0, SyncLen::get));
        put_optional_ip(out, group.map(McastGroup::get));
        put_u16(out, port.map_or(0, NonZeroU16::get));
        out.push(ttl.map_or(0, NonZeroU8::get));
    }

    fn unpack(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let role = Role::unpack(reader)?;
        let link = reader.text("link")?.parse();
        let sync_id = reader.byte("sync_id")?;
        let max_len = match reader.u16("max_len")? {
            0 => Ok(None),
            bytes => SyncLen::try_from(u32::from(bytes)).map(Some),
        };
        let group = match reader.optional_ip("group")? {
            None => Ok(None),
            Some(ip) => McastGroup::try_from(ip).map(Some),
        };
        Ok(Self {
            role,
            link: link.map_err(|bad: InvalidValue| bad.in_field("link"))?,
            sync_id,
            max_len: max_len.map_err(|bad| bad.in_field("max_len"))?,
            group: group.map_err(|bad| bad.in_field("group"))?,
            port: NonZeroU16::new(reader.u16("port")?),
            ttl: NonZeroU8::new(reader.byte("ttl")?),
        })
    }
}
