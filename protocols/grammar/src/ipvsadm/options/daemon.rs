//! Options of `--start-daemon`.

use std::net::IpAddr;
use std::num::NonZeroU8;

use patchbay_types::ipvs::{McastGroup, SyncLink};

use crate::ParseError;
use crate::ipvsadm::compat::CommandName;
use crate::ipvsadm::spec::{IpvsOption, NAME, NUMBER, name, option, udp_port};
use crate::ipvsadm::values::{DEFAULT_LINK, default_name};
use crate::option::{Value, ValueKind};

const START: &[CommandName] = &[CommandName::StartDaemon];
const SYNC_ID: &[CommandName] = &[
    CommandName::List,
    CommandName::StartDaemon,
    CommandName::StopDaemon,
];

#[rustfmt::skip]
pub(super) static OPTIONS: &[IpvsOption] = &[
    option("", "mcast-interface", NAME, "link of the sync daemon [eth0]",
        |a, v| link(v).map(|link| a.daemon.link = link)).on(START),
    option("", "syncid", NUMBER, "group of directors, 0 to 255 [0]",
        |a, v| v.number("a sync id is 0 to 255").map(|id| a.daemon.sync_id = id)).on(SYNC_ID),
    option("", "sync-maxlen", NUMBER, "bytes of a sync message, 1 to 65507", |a, v| {
        let len = v.number("a sync message has 1 to 65507 bytes");
        len.map(|len| a.daemon.max_len = Some(len))
    }).on(START),
    option("", "mcast-group", ValueKind::Required("ADDRESS"), "multicast group of the sync daemon",
        |a, v| group(v).map(|group| a.daemon.group = Some(group))).on(START),
    option("", "mcast-port", NUMBER, "UDP port of the sync daemon",
        |a, v| udp_port(v).map(|port| a.daemon.port = Some(port))).on(START),
    option("", "mcast-ttl", NUMBER, "hop limit of the sync daemon, 1 to 255",
        |a, v| ttl(v).map(|ttl| a.daemon.ttl = Some(ttl))).on(START),
];

/// An empty name means the default.
fn link(value: Value<'_>) -> Result<SyncLink, ParseError> {
    match value.text() {
        "" => default_name("--mcast-interface", DEFAULT_LINK),
        _ => name(value),
    }
}

/// ipvsadm reads other addresses by `inet_aton`, and this one by `inet_pton`.
fn group(value: Value<'_>) -> Result<McastGroup, ParseError> {
    let ip: Option<IpAddr> = value.text().parse().ok();
    ip.and_then(|ip| McastGroup::try_from(ip).ok())
        .ok_or_else(|| value.invalid("a sync group is a multicast address"))
}

fn ttl(value: Value<'_>) -> Result<NonZeroU8, ParseError> {
    let rule = "a hop limit is 1 to 255";
    NonZeroU8::new(value.number(rule)?).ok_or_else(|| value.invalid(rule))
}
