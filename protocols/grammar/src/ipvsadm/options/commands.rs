//! Commands.

use patchbay_types::ipvs::{Change, Role, ServiceId, Timeouts};

use super::{server, service};
use crate::ParseError;
use crate::ipvsadm::command::{IpvsCommand, TableView, View};
use crate::ipvsadm::compat::CommandName;
use crate::ipvsadm::spec::{Apply, Build, IpvsOption, flag};
use crate::option::{Value, ValueKind};
use crate::spelling::Spelling;

/// The command of an empty line.
#[rustfmt::skip]
pub(in crate::ipvsadm) const LIST: IpvsOption =
    command(CommandName::List, "Ll", "list", "list services and servers (also -l)",
        |a, _| Ok(IpvsCommand::View((a.view)(TableView { service: a.id, ..a.table }))));

#[rustfmt::skip]
pub(super) static OPTIONS: &[IpvsOption] = &[
    command(CommandName::AddService, "A", "add-service", "add a virtual service",
        |a, c| Ok(Change::AddService(service::build(a, c)?).into())),
    command(CommandName::EditService, "E", "edit-service", "replace the options of a virtual service",
        |a, c| Ok(Change::EditService(service::build(a, c)?).into())),
    command(CommandName::DeleteService, "D", "delete-service", "delete a virtual service",
        |a, c| Ok(Change::DeleteService(a.service_id(c)?).into())),
    command(CommandName::Clear, "C", "clear", "delete all services and servers",
        |_, _| Ok(Change::Clear.into())),
    LIST,
    command(CommandName::AddServer, "a", "add-server", "add a real server to a service",
        |a, c| Ok(Change::AddServer(a.service_id(c)?, server::build(a, c)?).into())),
    command(CommandName::EditServer, "e", "edit-server", "replace the options of a real server",
        |a, c| Ok(Change::EditServer(a.service_id(c)?, server::build(a, c)?).into())),
    command(CommandName::DeleteServer, "d", "delete-server", "delete a real server",
        |a, c| Ok(Change::DeleteServer(a.service_id(c)?, server::id(a, c)?).into())),
    command(CommandName::Set, "", "set", "set the timeouts TCP TCPFIN UDP, in seconds",
        |a, c| Ok(Change::SetTimeouts(timeouts(&a.words, c)?).into())),
    command(CommandName::StartDaemon, "", "start-daemon", "start a sync daemon",
        |a, _| Ok(Change::StartDaemon(a.daemon.clone()).into())).with_role(),
    command(CommandName::StopDaemon, "", "stop-daemon", "stop a sync daemon",
        |a, _| Ok(Change::StopDaemon(a.daemon.role).into())).with_role(),
    command(CommandName::Restore, "R", "restore", "apply the rule file on standard input",
        |_, _| Ok(IpvsCommand::Restore)),
    command(CommandName::Save, "S", "save", "print a rule file for --restore",
        |a, _| Ok(IpvsCommand::View(View::Save(a.table.names)))),
    command(CommandName::Zero, "Z", "zero", "zero the counters of one service or of all",
        |a, _| Ok(Change::Zero(a.id.filter(|id| !is_zero(*id))).into())),
    command(CommandName::Help, "h", "help", "print this text", |_, _| Ok(IpvsCommand::Help)),
    command(CommandName::Version, "v", "version", "print the version", |_, _| Ok(IpvsCommand::Version)),
];

const fn command(
    name: CommandName,
    short: &'static str,
    long: &'static str,
    help: &'static str,
    build: Build,
) -> IpvsOption {
    let mut option = flag(short, long, help, |_| ());
    option.action.command = Some((name, build));
    option
}

impl IpvsOption {
    const fn with_role(mut self) -> Self {
        self.value = ValueKind::Required("master|backup");
        self.action.apply = Apply::Value(|a, v| role(v).map(|role| a.daemon.role = role));
        self
    }
}

fn role(value: Value<'_>) -> Result<Role, ParseError> {
    let mut roles = [Role::Master, Role::Backup].into_iter();
    let role = roles.find(|role| role.name() == value.text());
    role.ok_or_else(|| value.invalid("the role is master or backup"))
}

/// ipvsadm's library takes a service of zeros for "all services".
fn is_zero(id: ServiceId) -> bool {
    match id {
        ServiceId::Address { address, port, .. } => address.is_unspecified() && port == 0,
        ServiceId::Mark { .. } => false,
    }
}

fn timeouts(words: &[&str], command: Spelling) -> Result<Timeouts, ParseError> {
    let [tcp, tcp_fin, udp] = words else {
        let needed = "three timeouts in seconds: tcp, tcpfin and udp";
        return Err(ParseError::Needs(command, needed));
    };
    let value = |text| Value {
        option: command,
        text: Some(text),
    };
    let seconds = |text| value(text).number("a timeout is 0 to 2678400 seconds");
    Timeouts::new(seconds(tcp)?, seconds(tcp_fin)?, seconds(udp)?)
        .map_err(|bad| ParseError::Value(bad.in_field(command.to_string())))
}
