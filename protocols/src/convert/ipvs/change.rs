//! Changes of the table, to wire and back.

use super::{missing, role};
use crate::ipvs::{Change, Line, RestoreMode, Restored, Server, Service, ServiceId};
use crate::model::{BadValue, Invalid};
use crate::wire::ipvs as wire;

impl From<&Change> for wire::Change {
    fn from(change: &Change) -> Self {
        let server_of = |service: &ServiceId, server: &Server| wire::ServerOf {
            service: Some((*service).into()).into(),
            server: Some(server.into()).into(),
            ..wire::ServerOf::default()
        };
        let all = wire::All::default();
        let mut wire = Self::default();
        match change {
            Change::AddService(service) => wire.set_add_service(service.into()),
            Change::EditService(service) => wire.set_edit_service(service.into()),
            Change::DeleteService(id) => wire.set_delete_service((*id).into()),
            Change::Clear => wire.set_clear(all),
            Change::AddServer(service, server) => wire.set_add_server(server_of(service, server)),
            Change::EditServer(service, server) => wire.set_edit_server(server_of(service, server)),
            Change::DeleteServer(service, server) => wire.set_delete_server(wire::ServerIdOf {
                service: Some((*service).into()).into(),
                server: Some((*server).into()).into(),
                ..wire::ServerIdOf::default()
            }),
            Change::Zero(Some(id)) => wire.set_zero((*id).into()),
            Change::Zero(None) => wire.set_zero_all(all),
            Change::SetTimeouts(timeouts) => wire.set_set_timeouts((*timeouts).into()),
            Change::StartDaemon(daemon) => wire.set_start_daemon(daemon.into()),
            Change::StopDaemon(role) => wire.set_stop_daemon(*role as u32),
        }
        wire
    }
}

fn server_of(wire: &wire::ServerOf) -> Result<(ServiceId, Server), Invalid> {
    let service = wire.service.as_ref().ok_or_else(|| missing("service"))?;
    let server = wire.server.as_ref().ok_or_else(|| missing("server"))?;
    let (service, server) = (ServiceId::try_from(service)?, Server::try_from(server)?);
    let server = server
        .of(service)
        .map_err(|rule| BadValue::new(&server.id.to_string(), rule.to_string()).at("server"))?;
    Ok((service, server))
}

fn checked(wire: &wire::Service) -> Result<Service, Invalid> {
    let service = Service::try_from(wire)?;
    let id = service.id;
    service
        .checked()
        .map_err(|rule| BadValue::new(&id.to_string(), rule.to_string()).at("service"))
}

impl TryFrom<&wire::Change> for Change {
    type Error = Invalid;

    fn try_from(wire: &wire::Change) -> Result<Self, Invalid> {
        use wire::change::What;
        let what = wire.what.as_ref().ok_or_else(|| missing("change"))?;
        Ok(match what {
            What::AddService(service) => Self::AddService(checked(service)?),
            What::EditService(service) => Self::EditService(checked(service)?),
            What::DeleteService(id) => Self::DeleteService(id.try_into()?),
            What::Clear(_) => Self::Clear,
            What::AddServer(wire) => {
                let (service, server) = server_of(wire)?;
                Self::AddServer(service, server)
            }
            What::EditServer(wire) => {
                let (service, server) = server_of(wire)?;
                Self::EditServer(service, server)
            }
            What::DeleteServer(wire) => Self::DeleteServer(
                wire.service
                    .as_ref()
                    .ok_or_else(|| missing("service"))?
                    .try_into()?,
                wire.server
                    .as_ref()
                    .ok_or_else(|| missing("server"))?
                    .try_into()?,
            ),
            What::Zero(id) => Self::Zero(Some(id.try_into()?)),
            What::ZeroAll(_) => Self::Zero(None),
            What::SetTimeouts(timeouts) => Self::SetTimeouts(timeouts.try_into()?),
            What::StartDaemon(daemon) => Self::StartDaemon(daemon.try_into()?),
            What::StopDaemon(number) => Self::StopDaemon(role(*number)?),
        })
    }
}

/// One change, and how many rules there may be afterwards.
#[must_use]
pub fn change_request(change: &Change, max_rules: u32) -> wire::ChangeRequest {
    wire::ChangeRequest {
        change: Some(change.into()).into(),
        max_rules,
        ..wire::ChangeRequest::default()
    }
}

impl TryFrom<&wire::ChangeRequest> for Change {
    type Error = Invalid;

    fn try_from(wire: &wire::ChangeRequest) -> Result<Self, Invalid> {
        wire.change
            .as_ref()
            .ok_or_else(|| missing("change"))?
            .try_into()
    }
}

impl From<&Line> for wire::Rule {
    fn from(line: &Line) -> Self {
        Self {
            line: line.number,
            change: Some((&line.change).into()).into(),
            ..Self::default()
        }
    }
}

impl TryFrom<&wire::Rule> for Line {
    type Error = Invalid;

    fn try_from(wire: &wire::Rule) -> Result<Self, Invalid> {
        Ok(Self {
            number: wire.line,
            change: wire
                .change
                .as_ref()
                .ok_or_else(|| missing("change"))?
                .try_into()?,
        })
    }
}

/// The mode as it stands in the first chunk of a rule file.
#[must_use]
pub fn mode_number(mode: RestoreMode) -> u32 {
    match mode {
        RestoreMode::Empty => 0,
        RestoreMode::Replace => 1,
        RestoreMode::Merge => 2,
    }
}

/// The mode of the first chunk of a rule file.
///
/// # Errors
/// A number that is none.
pub fn mode(number: u32) -> Result<RestoreMode, Invalid> {
    match number {
        0 => Ok(RestoreMode::Empty),
        1 => Ok(RestoreMode::Replace),
        2 => Ok(RestoreMode::Merge),
        _ => Err(BadValue::new(&number.to_string(), "a mode is 0, 1 or 2").at("mode")),
    }
}

impl From<Restored> for wire::RestoreReply {
    fn from(restored: Restored) -> Self {
        Self {
            added: restored.added,
            edited: restored.edited,
            deleted: restored.deleted,
            ..Self::default()
        }
    }
}

impl From<&wire::RestoreReply> for Restored {
    fn from(wire: &wire::RestoreReply) -> Self {
        Self {
            added: wire.added,
            edited: wire.edited,
            deleted: wire.deleted,
        }
    }
}
