//! Options of `--start-daemon`.

use std::num::{NonZeroU8, NonZeroU16};

use patchbay_types::ipvs::{Daemon, McastGroup, Role, SyncLen, SyncLink};

use super::{IpvsOption, NAME, NUMBER, option};
use crate::ipvsadm::args::Args;
use crate::ipvsadm::compat::CommandName;
use crate::option::{Spelling, Value, ValueKind};
use crate::{ParseError, parse_num};

/// Values of the options.
#[derive(Default)]
pub(in crate::ipvsadm) struct DaemonArgs {
    pub(super) role: Option<Role>,
    link: Option<SyncLink>,
    sync_id: u8,
    max_len: Option<SyncLen>,
    group: Option<McastGroup>,
    port: Option<NonZeroU16>,
    ttl: Option<NonZeroU8>,
}

const DEFAULT_LINK: &str = "eth0";

const START: &[CommandName] = &[CommandName::StartDaemon];

pub(super) static OPTIONS: &[IpvsOption] = &[
    option(
        "",
        "mcast-interface",
        NAME,
        "link of the sync daemon [eth0]",
        |a, v| {
            let link = SyncLink::cut(v.text()).map_err(|bad| v.in_option(bad))?;
            a.daemon.link = Some(link);
            Ok(())
        },
    )
    .on(START),
    option(
        "",
        "syncid",
        NUMBER,
        "group of directors, 0 to 255 [0]",
        |a, v| {
            v.number("a sync id is 0 to 255")
                .map(|id| a.daemon.sync_id = id)
        },
    )
    .on(&[
        CommandName::List,
        CommandName::StartDaemon,
        CommandName::StopDaemon,
    ]),
    option(
        "",
        "sync-maxlen",
        NUMBER,
        "bytes of a sync message, 1 to 65507",
        |a, v| {
            v.number("a sync message has 1 to 65507 bytes")
                .map(|len| a.daemon.max_len = Some(len))
        },
    )
    .on(START),
    option(
        "",
        "mcast-group",
        ValueKind::Required("ADDRESS"),
        "multicast group of the sync daemon",
        |a, v| group(v).map(|group| a.daemon.group = Some(group)),
    )
    .on(START),
    option(
        "",
        "mcast-port",
        NUMBER,
        "UDP port of the sync daemon",
        |a, v| super::udp_port(v).map(|port| a.daemon.port = Some(port)),
    )
    .on(START),
    option(
        "",
        "mcast-ttl",
        NUMBER,
        "hop limit of the sync daemon, 1 to 255",
        |a, v| ttl(v).map(|ttl| a.daemon.ttl = Some(ttl)),
    )
    .on(START),
];

fn group(value: Value<'_>) -> Result<McastGroup, ParseError> {
    parse_num::ip(value.text())
        .and_then(|ip| McastGroup::try_from(ip).ok())
        .ok_or_else(|| value.invalid("a sync group is a multicast address"))
}

fn ttl(value: Value<'_>) -> Result<NonZeroU8, ParseError> {
    let rule = "a hop limit is 1 to 255";
    NonZeroU8::new(value.number(rule)?).ok_or_else(|| value.invalid(rule))
}

/// The role of `--start-daemon` or `--stop-daemon`.
pub(super) fn role(args: &Args<'_>, command: Spelling) -> Result<Role, ParseError> {
    args.daemon.role.ok_or(ParseError::MissingValue(command))
}

/// Builds the daemon of `--start-daemon`.
pub(super) fn build(args: &Args<'_>, command: Spelling) -> Result<Daemon, ParseError> {
    let options = &args.daemon;
    Ok(Daemon {
        role: role(args, command)?,
        link: match options.link {
            Some(link) => link,
            None => super::name(command, DEFAULT_LINK)?,
        },
        sync_id: options.sync_id,
        max_len: options.max_len,
        group: options.group,
        port: options.port,
        ttl: options.ttl,
    })
}
