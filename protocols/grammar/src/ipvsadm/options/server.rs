//! Options of a real server.

use patchbay_types::ipvs::{
    Checksum, Forward, NonNegativeInt, Protocol, Server, ServerId, ServiceId, Tunnel,
};

use crate::ipvsadm::compat::{CommandName, Group};
use crate::ipvsadm::saved_rule::saved_port;
use crate::ipvsadm::spec::{
    ADDRESS, ADDRESS_RULE, IpvsOption, NUMBER, Parse, flag, option, udp_port,
};
use crate::ipvsadm::values::{PortRule, ServerValues, TunnelKind, Values};
use crate::option::{Value, ValueKind};
use crate::spelling::Spelling;
use crate::{ParseError, parse_num};

#[rustfmt::skip]
const WITH_SERVER: &[CommandName] =
    &[CommandName::AddServer, CommandName::EditServer, CommandName::DeleteServer];
const PUT_SERVER: &[CommandName] = &[CommandName::AddServer, CommandName::EditServer];

/// In the order of saved lines.
#[rustfmt::skip]
pub(super) static OPTIONS: &[IpvsOption] = &[
    option("r", "real-server", ADDRESS, "server; its port defaults to that of the service",
        |a, v| address(a, v).map(|id| a.server.id = Some(id)))
        .on(WITH_SERVER).print(|rule| Some(rule.server_endpoint(rule.server?.id))),
    flag("g", "gatewaying", "forward by direct routing", |a| a.server.forward = Some(Forward::Route))
        .on(PUT_SERVER).group(Group::Forwarding)
        .print(|rule| matches!(rule.server?.forward, Forward::Route | Forward::Local).then(String::new)),
    flag("i", "ipip", "forward through a tunnel", |a| a.server.forward = Some(Forward::Tunnel(Tunnel::Ipip)))
        .on(PUT_SERVER).group(Group::Forwarding).print(|rule| rule.tunnel().map(|_| String::new())),
    flag("m", "masquerading", "forward by NAT", |a| a.server.forward = Some(Forward::Masquerade))
        .on(PUT_SERVER).group(Group::Forwarding)
        .print(|rule| (rule.server?.forward == Forward::Masquerade).then(String::new)),
    option("w", "weight", NUMBER, "weight [1]", |a, v| count(v).map(|n| a.server.weight = Some(n)))
        .on(PUT_SERVER).print(|rule| Some(rule.server?.weight.get().to_string())),
    option("", "tun-type", ValueKind::Required("ipip|gue|gre"), "type of tunnel [ipip]",
        |a, v| tunnel_kind(v).map(|kind| a.server.tunnel = Some((v.option, kind))))
        .on(PUT_SERVER).print(|rule| Some(kind_name(rule.tunnel()?).to_owned())),
    option("", "tun-port", NUMBER, "UDP port of a gue tunnel",
        |a, v| udp_port(v).map(|port| a.server.tunnel_port = Some((v.option, port))))
        .on(PUT_SERVER)
        .print(|rule| match rule.tunnel()? { Tunnel::Gue { port, .. } => Some(port.to_string()), _ => None }),
    checksum("tun-nocsum", "tunnel without checksum (gue, gre)",
        |a, v| { a.server.checksum = Some((v.option, Checksum::No)); Ok(()) })
        .print(|rule| rule.has_checksum(Checksum::No)),
    checksum("tun-csum", "tunnel with checksum (gue, gre)",
        |a, v| { a.server.checksum = Some((v.option, Checksum::Full)); Ok(()) })
        .print(|rule| rule.has_checksum(Checksum::Full)),
    checksum("tun-remcsum", "tunnel with remote checksum offload (gue)",
        |a, v| { a.server.checksum = Some((v.option, Checksum::Remote)); Ok(()) })
        .print(|rule| rule.has_checksum(Checksum::Remote)),
    option("x", "u-threshold", NUMBER, "upper connection threshold [0: none]",
        |a, v| count(v).map(|n| a.server.upper = n))
        .on(PUT_SERVER).print(|rule| rule.threshold(rule.server?.upper)),
    option("y", "l-threshold", NUMBER, "lower connection threshold [0: none]",
        |a, v| count(v).map(|n| a.server.lower = n))
        .on(PUT_SERVER).print(|rule| rule.threshold(rule.server?.lower)),
    flag("", "keep-port", "with -g or -i: the server keeps a port other than the service's (not in ipvsadm)",
        |a| a.server.port = PortRule::Own)
        .on(PUT_SERVER).print(saved_port),
];

const fn checksum(long: &'static str, help: &'static str, parse: Parse) -> IpvsOption {
    option("", long, ValueKind::None, help, parse)
        .on(PUT_SERVER)
        .group(Group::Checksum)
}

fn kind_name(tunnel: Tunnel) -> &'static str {
    match tunnel {
        Tunnel::Ipip => "ipip",
        Tunnel::Gue { .. } => "gue",
        Tunnel::Gre { .. } => "gre",
    }
}

/// The port defaults to that of the service, if the service comes before the server.
fn address(values: &Values<'_>, value: Value<'_>) -> Result<ServerId, ParseError> {
    let (protocol, service_port) = match values.id {
        Some(ServiceId::Address { protocol, port, .. }) => (Some(protocol), port),
        Some(ServiceId::Mark { .. }) => (Some(Protocol::Tcp), 0),
        None => (None, 0),
    };
    let protocol = protocol.map(Protocol::name);
    let endpoint = parse_num::endpoint(value.text(), protocol, values.grammar.names);
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
pub(super) fn id(values: &Values<'_>, command: Spelling) -> Result<ServerId, ParseError> {
    let id = values.server.id;
    id.ok_or(ParseError::Needs(command, "-r/--real-server"))
}

/// Builds the server of `-a` or `-e`.
pub(super) fn build(values: &Values<'_>, command: Spelling) -> Result<Server, ParseError> {
    let service = values.service_id(command)?;
    let options = &values.server;
    let id = id(values, command)?;
    let forward = match options.forward {
        Some(Forward::Tunnel(_)) => Forward::Tunnel(options.tunnel()?),
        Some(forward) => forward,
        None => values.grammar.forward,
    };
    if let (Some(option), false) = (
        options.tunnel_option(),
        matches!(forward, Forward::Tunnel(_)),
    ) {
        return Err(ParseError::Needs(option, "a tunnel (-i/--ipip)"));
    }
    let mut server = Server::new(id, forward);
    server.weight = options.weight.unwrap_or(server.weight);
    server.upper = options.upper;
    server.lower = options.lower;
    let server = match options.port {
        PortRule::Service => server.at_port_of(service),
        PortRule::Own => server,
    };
    Ok(server.of(service)?)
}

impl ServerValues {
    fn tunnel_option(&self) -> Option<Spelling> {
        let kind = self.tunnel.map(|(option, _)| option);
        let port = self.tunnel_port.map(|(option, _)| option);
        kind.or(port).or(self.checksum.map(|(option, _)| option))
    }

    fn tunnel(&self) -> Result<Tunnel, ParseError> {
        let not_taken =
            |kind: &str, option| ParseError::NotTaken(format!("--tun-type {kind}"), option);
        let checksum = self.checksum.map_or(Checksum::No, |(_, checksum)| checksum);
        match (self.tunnel, self.tunnel_port, self.checksum) {
            (Some((_, TunnelKind::Gue)), Some((_, port)), _) => Ok(Tunnel::Gue { port, checksum }),
            (Some((option, TunnelKind::Gue)), None, _) => {
                Err(ParseError::Needs(option, "--tun-port for a gue tunnel"))
            }
            (Some((_, TunnelKind::Gre)), Some((option, _)), _)
            | (Some((_, TunnelKind::Gre)), _, Some((option, Checksum::Remote))) => {
                Err(not_taken("gre", option))
            }
            (Some((_, TunnelKind::Gre)), None, _) => Ok(Tunnel::Gre { checksum }),
            (_, Some((option, _)), _) | (_, _, Some((option, _))) => Err(not_taken("ipip", option)),
            (_, None, None) => Ok(Tunnel::Ipip),
        }
    }
}
