//! Options of a virtual service.

use std::num::NonZeroU32;

use patchbay_types::ipvs::{
    Engine, Family, Netmask, Persistence, Protocol, SchedFlags, Scheduler, Scheduling, Service,
    ServiceId,
};

use crate::ipvsadm::compat::{CommandName, Group};
use crate::ipvsadm::saved_rule::{saved_flags, saved_netmask};
use crate::ipvsadm::spec::{ADDRESS, ADDRESS_RULE, IpvsOption, NAME, NUMBER, flag, name, option};
use crate::ipvsadm::values::{Values, default_name};
use crate::option::{Value, ValueKind};
use crate::spelling::Spelling;
use crate::{ParseError, parse_num};

#[rustfmt::skip]
const WITH_SERVICE: &[CommandName] = &[
    CommandName::AddService, CommandName::EditService, CommandName::DeleteService,
    CommandName::AddServer, CommandName::EditServer, CommandName::DeleteServer,
    CommandName::List, CommandName::Zero,
];
const PUT_SERVICE: &[CommandName] = &[CommandName::AddService, CommandName::EditService];

/// In the order of saved lines.
#[rustfmt::skip]
pub(super) static OPTIONS: &[IpvsOption] = &[
    option("t", "tcp-service", ADDRESS, "TCP service", |a, v| address(a, v, Protocol::Tcp))
        .on(WITH_SERVICE).group(Group::Service).print(|rule| rule.service_endpoint(Protocol::Tcp)),
    option("u", "udp-service", ADDRESS, "UDP service", |a, v| address(a, v, Protocol::Udp))
        .on(WITH_SERVICE).group(Group::Service).print(|rule| rule.service_endpoint(Protocol::Udp)),
    option("", "sctp-service", ADDRESS, "SCTP service", |a, v| address(a, v, Protocol::Sctp))
        .on(WITH_SERVICE).group(Group::Service).print(|rule| rule.service_endpoint(Protocol::Sctp)),
    option("f", "fwmark-service", NUMBER, "service of a firewall mark, 1 to 4294967295",
        |a, v| mark(v).map(|id| a.id = Some(id)))
        .on(WITH_SERVICE).group(Group::Service).print(|rule| Some(rule.mark()?.0.to_string())),
    option("6", "ipv6", ValueKind::None, "the firewall mark before it is of IPv6 packets", ipv6)
        .group(Group::Repeatable).print(|rule| (rule.mark()?.1 == Family::V6).then(String::new)),
    option("s", "scheduler", NAME, "scheduler [wlc]", scheduler)
        .on(PUT_SERVICE).print(|rule| Some(rule.service?.scheduler.to_string())),
    option("p", "persistent", ValueKind::Optional("SECONDS"), "persistence, 1 to 2678400 seconds [360]",
        |a, v| persistence(v).map(|seconds| a.service.persistence = Some(seconds)))
        .on(PUT_SERVICE).print(|rule| Some(rule.service?.persistence?.get().to_string())),
    option("M", "netmask", ValueKind::Required("MASK"), "mask of the clients that persistence takes as one",
        |a, v| netmask(a, v).map(|mask| a.service.netmask = Some(mask)))
        .on(PUT_SERVICE)
        .print(saved_netmask),
    option("", "pe", NAME, "persistence engine", |a, v| engine(v).map(|engine| a.service.engine = engine))
        .on(PUT_SERVICE).print(|rule| Some(rule.service?.engine?.to_string())),
    flag("o", "ops", "schedule each packet by itself (UDP and firewall marks)",
        |a| a.service.scheduling = Scheduling::Packets)
        .on(PUT_SERVICE)
        .print(|rule| (rule.service?.scheduling == Scheduling::Packets).then(String::new)),
    option("b", "sched-flags", ValueKind::Required("LIST"), "flags of the scheduler, separated by commas",
        |a, v| { a.service.flags = v.text(); Ok(()) })
        .on(PUT_SERVICE).print(saved_flags),
];

fn address(
    values: &mut Values<'_>,
    value: Value<'_>,
    protocol: Protocol,
) -> Result<(), ParseError> {
    let endpoint = parse_num::endpoint(value.text(), Some(protocol.name()), values.grammar.names);
    let (address, port) = endpoint.ok_or_else(|| value.invalid(ADDRESS_RULE))?;
    if Family::of(address) == Family::V6 {
        values.service.netmask = None;
    }
    values.id = Some(ServiceId::Address {
        protocol,
        address,
        port: port.unwrap_or(0),
    });
    Ok(())
}

fn mark(value: Value<'_>) -> Result<ServiceId, ParseError> {
    let mark: NonZeroU32 = value.number("a firewall mark is 1 to 4294967295")?;
    Ok(ServiceId::Mark {
        mark,
        family: Family::V4,
    })
}

fn ipv6(values: &mut Values<'_>, value: Value<'_>) -> Result<(), ParseError> {
    let Some(ServiceId::Mark { family, .. }) = &mut values.id else {
        return Err(ParseError::MustFollow(value.option, "-f/--fwmark-service"));
    };
    *family = Family::V6;
    values.service.netmask = None;
    Ok(())
}

fn scheduler(values: &mut Values<'_>, value: Value<'_>) -> Result<(), ParseError> {
    // ipvsadm takes an empty name for the default.
    if !value.text().is_empty() {
        values.service.scheduler = Some(name(value)?);
    }
    Ok(())
}

/// An empty name means none.
fn engine(value: Value<'_>) -> Result<Option<Engine>, ParseError> {
    match value.text() {
        "" => Ok(None),
        _ => name(value).map(Some),
    }
}

fn persistence(value: Value<'_>) -> Result<Persistence, ParseError> {
    match value.text {
        Some(_) => value.number("persistence lasts 1 to 2678400 seconds"),
        None => Ok(Persistence::DEFAULT),
    }
}

/// Without a service before it, the mask is an IPv4 mask; an IPv6 service drops it again.
fn netmask(values: &Values<'_>, value: Value<'_>) -> Result<Netmask, ParseError> {
    if values.id.map(ServiceId::family) == Some(Family::V6) {
        let prefix = Netmask::prefix(parse_num::atoi(value.text()));
        return prefix.map_err(|bad| value.in_option(bad));
    }
    parse_num::ipv4_or_name(value.text(), values.grammar.names)
        .map(|mask| Netmask::V4(mask.to_bits()))
        .ok_or_else(|| value.invalid("an IPv4 mask is like 255.255.255.0"))
}

/// Parses a list separated by commas. Empty items are ignored, but a list of nothing else is
/// refused, since it crashes ipvsadm.
fn sched_flags(list: &str, scheduler: &Scheduler) -> Result<SchedFlags, ParseError> {
    let unknown =
        |flag: &str| ParseError::SchedFlag(flag.escape_debug().take(32).collect(), *scheduler);
    let mut bits = 0;
    for item in list.split(',').filter(|item| !item.is_empty()) {
        let names = [&SchedFlags::NUMBERED, SchedFlags::names(scheduler)];
        let position = |names: &[&str]| names.iter().position(|name| *name == item);
        bits |= 1
            << names
                .into_iter()
                .find_map(position)
                .ok_or_else(|| unknown(item))?;
    }
    if bits == 0 && !list.is_empty() {
        return Err(unknown(list));
    }
    Ok(SchedFlags::from_bits(bits))
}

/// Builds the service of `-A` or `-E`.
pub(super) fn build(values: &Values<'_>, command: Spelling) -> Result<Service, ParseError> {
    let id = values.service_id(command)?;
    let options = &values.service;
    let scheduler = match options.scheduler {
        Some(scheduler) => scheduler,
        None => default_name("-s/--scheduler", "wlc")?,
    };
    let service = Service {
        id,
        scheduler,
        persistence: options.persistence,
        netmask: options.netmask.unwrap_or(Netmask::whole(id.family())),
        scheduling: options.scheduling,
        flags: sched_flags(options.flags, &scheduler)?,
        engine: options.engine,
    };
    Ok(service.checked()?)
}
