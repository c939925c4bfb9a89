//! Options of a real server.

use std::num::NonZeroU16;

use patchbay_types::ipvs::{
    Checksum, Forward, NonNegativeInt, Protocol, Server, ServerId, ServiceId, Tunnel,
};

use super::{ADDRESS, ADDRESS_RULE, IpvsOption, NUMBER, flag, option};
use crate::ipvsadm::args::Args;
use crate::ipvsadm::compat::{CommandName, Group};
use crate::option::{Spelling, Value, ValueKind};
use crate::{ParseError, parse_num};

/// Values of the options.
#[derive(Default)]
pub(in crate::ipvsadm) struct ServerArgs {
    id: Option<ServerId>,
    /// For `-i`, the tunnel is known at the end only.
    forward: Option<Forward>,
    weight: Option<NonNegativeInt>,
    tunnel: Option<(Spelling, TunnelKind)>,
    tunnel_port: Option<(Spelling, NonZeroU16)>,
    checksum: Option<(Spelling, Checksum)>,
    upper: NonNegativeInt,
    lower: NonNegativeInt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TunnelKind {
    Ipip,
    Gue,
    Gre,
}

const WITH_SERVER: &[CommandName] = &[
    CommandName::AddServer,
    CommandName::EditServer,
    CommandName::DeleteServer,
];
const PUT_SERVER: &[CommandName] = &[CommandName::AddServer, CommandName::EditServer];

/// In the order of saved lines.
pub(super) static OPTIONS: &[IpvsOption] = &[
    option(
        "r",
        "real-server",
        ADDRESS,
        "server; its port defaults to that of the service",
        |a, v| address(a, v).map(|id| a.server.id = Some(id)),
    )
    .on(WITH_SERVER)
    .print(|rule| rule.server_endpoint()),
    flag("g", "gatewaying", "forward by direct routing", |a| {
        a.server.forward = Some(Forward::Route);
    })
    .on(PUT_SERVER)
    .group(Group::Forwarding)
    .print(|rule| {
        matches!(rule.server?.forward, Forward::Route | Forward::Local).then(String::new)
    }),
    flag("i", "ipip", "forward through a tunnel", |a| {
        a.server.forward = Some(Forward::Tunnel(Tunnel::Ipip));
    })
    .on(PUT_SERVER)
    .group(Group::Forwarding)
    .print(|rule| matches!(rule.server?.forward, Forward::Tunnel(_)).then(String::new)),
    flag("m", "masquerading", "forward by NAT", |a| {
        a.server.forward = Some(Forward::Masquerade);
    })
    .on(PUT_SERVER)
    .group(Group::Forwarding)
    .print(|rule| (rule.server?.forward == Forward::Masquerade).then(String::new)),
    option("w", "weight", NUMBER, "weight [1]", |a, v| {
        count(v).map(|weight| a.server.weight = Some(weight))
    })
    .on(PUT_SERVER)
    .print(|rule| Some(rule.server?.weight.get().to_string())),
    option(
        "",
        "tun-type",
        ValueKind::Required("ipip|gue|gre"),
        "type of tunnel [ipip]",
        |a, v| tunnel_kind(v).map(|kind| a.server.tunnel = Some((v.option, kind))),
    )
    .on(PUT_SERVER)
    .print(|rule| {
        let kind = match rule.tunnel()? {
            Tunnel::Ipip => "ipip",
            Tunnel::Gue { .. } => "gue",
            Tunnel::Gre { .. } => "gre",
        };
        Some(kind.to_owned())
    }),
    option(
        "",
        "tun-port",
        NUMBER,
        "UDP port of a gue tunnel",
        |a, v| super::udp_port(v).map(|port| a.server.tunnel_port = Some((v.option, port))),
    )
    .on(PUT_SERVER)
    .print(|rule| match rule.tunnel()? {
        Tunnel::Gue { port, .. } => Some(port.to_string()),
        Tunnel::Ipip | Tunnel::Gre { .. } => None,
    }),
    checksum(
        "tun-nocsum",
        "tunnel without checksum (gue, gre)",
        |a, v| {
            a.server.checksum = Some((v.option, Checksum::No));
            Ok(())
        },
    )
    .print(|rule| rule.has_checksum(Checksum::No)),
    checksum("tun-csum", "tunnel with checksum (gue, gre)", |a, v| {
        a.server.checksum = Some((v.option, Checksum::Full));
        Ok(())
    })
    .print(|rule| rule.has_checksum(Checksum::Full)),
    checksum(
        "tun-remcsum",
        "tunnel with remote checksum offload (gue)",
        |a, v| {
            a.server.checksum = Some((v.option, Checksum::Remote));
            Ok(())
        },
    )
    .print(|rule| rule.has_checksum(Checksum::Remote)),
    option(
        "x",
        "u-threshold",
        NUMBER,
        "upper connection threshold [0: none]",
        |a, v| count(v).map(|upper| a.server.upper = upper),
    )
    .on(PUT_SERVER)
    .print(|rule| rule.threshold(rule.server?.upper)),
    option(
        "y",
        "l-threshold",
        NUMBER,
        "lower connection threshold [0: none]",
        |a, v| count(v).map(|lower| a.server.lower = lower),
    )
    .on(PUT_SERVER)
    .print(|rule| rule.threshold(rule.server?.lower)),
];

const fn checksum(long: &'static str, help: &'static str, parse: super::Parse) -> IpvsOption {
    option("", long, ValueKind::None, help, parse)
        .on(PUT_SERVER)
        .group(Group::Checksum)
}

/// The port defaults to that of the service, if the service comes before the server.
fn address(args: &Args<'_>, value: Value<'_>) -> Result<ServerId, ParseError> {
    let (protocol, service_port) = match args.id {
        Some(ServiceId::Address { protocol, port, .. }) => (Some(protocol), port),
        Some(ServiceId::Mark { .. }) => (Some(Protocol::Tcp), 0),
        None => (None, 0),
    };
    let protocol = protocol.map(Protocol::name);
    let endpoint = parse_num::endpoint(value.text(), protocol, args.grammar.names);
    let (address, port) = endpoint.ok_or_else(|| value.invalid(ADDRESS_RULE))?;
    Ok(ServerId {
        address,
        port: port.unwrap_or(service_port),
    })
}

fn count(value: Value<'_>) -> Result<NonNegativeInt, ParseError> {
    value.number("the range is 0 to 2147483647")
}

fn tunnel_kind(value: Value<'_>) -> Result<TunnelKind, ParseError> {
    match value.text() {
        "ipip" => Ok(TunnelKind::Ipip),
        "gue" => Ok(TunnelKind::Gue),
        "gre" => Ok(TunnelKind::Gre),
        _ => Err(value.invalid("a tunnel is ipip, gue or gre")),
    }
}

/// The server of `-d`.
pub(super) fn id(args: &Args<'_>, command: Spelling) -> Result<ServerId, ParseError> {
    let id = args.server.id;
    id.ok_or_else(|| ParseError::needs(command, "-r/--real-server"))
}

/// Builds the server of `-a` or `-e`.
pub(super) fn build(args: &Args<'_>, command: Spelling) -> Result<Server, ParseError> {
    let service = args.service_id(command)?;
    let options = &args.server;
    let id = id(args, command)?;
    let forward = match options.forward {
        Some(Forward::Tunnel(_)) => Forward::Tunnel(options.tunnel()?),
        Some(forward) => forward,
        None => args.grammar.forward,
    };
    if let (Some(option), false) = (
        options.tunnel_option(),
        matches!(forward, Forward::Tunnel(_)),
    ) {
        return Err(ParseError::needs(option, "a tunnel (-i/--ipip)"));
    }
    let server = Server {
        id,
        forward,
        weight: options.weight.unwrap_or(NonNegativeInt::ONE),
        upper: options.upper,
        lower: options.lower,
    };
    Ok(server.of(service)?)
}

impl ServerArgs {
    fn tunnel_option(&self) -> Option<Spelling> {
        let kind = self.tunnel.map(|(option, _)| option);
        let port = self.tunnel_port.map(|(option, _)| option);
        kind.or(port).or(self.checksum.map(|(option, _)| option))
    }

    fn tunnel(&self) -> Result<Tunnel, ParseError> {
        let not_taken = |kind: &str, option| ParseError::NotTaken {
            command: format!("--tun-type {kind}"),
            option,
        };
        let kind = self.tunnel.map_or(TunnelKind::Ipip, |(_, kind)| kind);
        let checksum = self.checksum.map_or(Checksum::No, |(_, checksum)| checksum);
        match (kind, self.tunnel_port, self.checksum) {
            (TunnelKind::Ipip, None, None) => Ok(Tunnel::Ipip),
            (TunnelKind::Ipip, Some((option, _)), _) | (TunnelKind::Ipip, _, Some((option, _))) => {
                Err(not_taken("ipip", option))
            }
            (TunnelKind::Gue, Some((_, port)), _) => Ok(Tunnel::Gue { port, checksum }),
            (TunnelKind::Gue, None, _) => Err(ParseError::needs("--tun-type gue", "--tun-port")),
            (TunnelKind::Gre, Some((option, _)), _)
            | (TunnelKind::Gre, _, Some((option, Checksum::Remote))) => {
                Err(not_taken("gre", option))
            }
            (TunnelKind::Gre, None, _) => Ok(Tunnel::Gre { checksum }),
        }
    }
}
