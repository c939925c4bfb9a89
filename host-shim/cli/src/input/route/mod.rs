//! Text form of routes: JSON documents (one object or an array), command-line flags and output.

pub(crate) mod flags;
#[cfg(test)]
pub(super) mod tests;

use std::net::IpAddr;
use std::path::Path;

use clap::Args;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use patchbay_host::json::Object;
use patchbay_types::failure::Failure;
use patchbay_types::ipvs::Family;
use patchbay_types::{
    Destination, FieldError, InvalidValue, MAX_ROUTES, Onlink, Route, RouteMtu, RoutePattern,
    RouteProtocol, RouteSpec, RouteTable,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kata_messages::{
    DEFAULT_WITHOUT_GATEWAY, DELETE_WITHOUT_DEST, DEST_WITHOUT_PREFIX, INVALID_ADDRESS,
    INVALID_DEST, ROUTE_INCOMPLETE,
};

use super::document::Document;
use super::family::FamilyText;
use super::prefix_length;

const DEFAULT: &str = "default";

/// `RTNH_F_ONLINK`, the only flag in `flags` that a request can set.
const ONLINK_FLAG: u32 = 1 << 2;

/// Route as text: an object of a JSON document, the flags of `route add` and `route del`, and an
/// object of the output. The keys up to `scope` and their order are the incumbent's, `mtu`, `flags` and
/// `family` those of Kata. JSON input is unchecked; each flag is checked and normalized by its parser.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize, Serialize)]
#[serde(default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RouteText {
    /// Destination: ADDRESS, ADDRESS/PREFIX or default
    #[arg(long, required = true, value_parser = flags::dest)]
    pub(crate) dest: Option<String>,
    /// Gateway; without one the destination is on the link
    #[arg(long = "via", value_name = "ADDRESS", value_parser = flags::address)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<String>,
    /// Interface in the guest
    #[arg(long = "dev", value_name = "NAME", value_parser = flags::device)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
    /// Preferred source address
    #[arg(long = "src", value_name = "ADDRESS", value_parser = flags::address)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// Number of the scope: 0 global, 200 site, 253 link, 254 host; a flag takes the name too [default: global with a gateway, else link]
    #[arg(long, value_name = "SCOPE", value_parser = flags::scope)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<u32>,
    /// Order among the routes to one destination, lowest first
    #[arg(long, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metric: Option<u32>,
    /// Routing table [default: 254, the main table]
    #[arg(long, value_name = "NUMBER", value_parser = flags::number::<RouteTable>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<u32>,
    /// Maximum size of packets, 1 to 65520 bytes
    #[arg(long, value_name = "BYTES", value_parser = flags::number::<RouteMtu>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    /// Number of the program that made the route, as in rtnetlink(7); a flag takes the name too [default: 3, boot]
    #[arg(long, value_name = "PROTOCOL", value_parser = flags::protocol)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<u32>,
    /// The gateway is on the link, although no route reaches it
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) onlink: bool,
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<u32>,
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<FamilyText>,
    #[arg(skip)]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}

/// Reads the routes of `add-route`, each with its echo.
pub(crate) fn to_add(path: &Path) -> Result<Vec<(RouteSpec, RouteText)>, Failure> {
    each(&Document::read(path)?, RouteText::new_route)
}

/// Reads the patterns of `del-route`, each with its echo.
pub(crate) fn to_delete(path: &Path) -> Result<Vec<(RoutePattern, RouteText)>, Failure> {
    each(&Document::read(path)?, RouteText::pattern)
}

/// Reads the complete list of `update-routes`; `None` for JSON `null`. As for the incumbent, a
/// destination needs a prefix here, and a missing one is the default.
pub(crate) fn wanted(path: &Path) -> Result<Option<Vec<(RouteSpec, RouteText)>>, Failure> {
    let document = Document::read(path)?;
    match &document.value {
        Value::Null => Ok(None),
        Value::Array(_) => each(&document, RouteText::wanted_route).map(Some),
        _ => Err(document.missing("routes", "a JSON array is needed")),
    }
}

/// Reads each route of an array, or the single route of the document. Errors name the position.
fn each<T>(
    document: &Document,
    read: impl Fn(&RouteText) -> Result<T, FieldError>,
) -> Result<Vec<T>, Failure> {
    let Value::Array(_) = &document.value else {
        return Ok(vec![read(&document.object("route")?)?]);
    };
    let texts = document.objects("routes", MAX_ROUTES)?;
    let at_position = |(index, Object(text)): (usize, &Object<RouteText>)| {
        let at = |invalid: FieldError| invalid.nested_in(&format!("[{index}]")).into();
        read(text).map_err(at)
    };
    texts.iter().enumerate().map(at_position).collect()
}

/// Trims text and drops an empty one: Go can't distinguish absent from empty.
fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

fn address(text: Option<&str>, field: &str) -> Result<Option<IpAddr>, FieldError> {
    let invalid = |text: &str| InvalidValue::new(text, INVALID_ADDRESS).in_field(field);
    let parse = |text: &str| text.parse().map_err(|_| invalid(text));
    given(text).map(parse).transpose()
}

/// Parses `default`, an address, or an address with a prefix length. The echo keeps host bits and
/// spelling and always has a prefix.
fn parse_dest(text: &str) -> Result<(Destination, String), InvalidValue> {
    if text == DEFAULT {
        return Ok((Destination::Default, text.to_owned()));
    }
    let bad = || InvalidValue::new(text, INVALID_DEST);
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let host = if address.is_ipv4() { 32 } else { 128 };
    let (bits, echo) = match prefix {
        None => (host, format!("{text}/{host}")),
        Some(prefix) => (prefix_length(prefix).ok_or_else(bad)?, text.to_owned()),
    };
    let net = IpNet::new(address, bits).map_err(|_| bad())?;
    Ok((Destination::Net(net), echo))
}

impl RouteText {
    /// Checks a route to add; as in the user guide, a default route needs a gateway.
    pub(crate) fn new_route(&self) -> Result<(RouteSpec, Self), FieldError> {
        let checked = self.checked(self.required_dest(ROUTE_INCOMPLETE)?)?;
        let (pattern, _) = &checked;
        if pattern.dest == Destination::Default && pattern.gateway.is_none() {
            return Err(FieldError::missing_by_rule(
                "gateway",
                DEFAULT_WITHOUT_GATEWAY,
            ));
        }
        self.spec(checked)
    }

    /// Checks a route of a complete list. Its destination is the default if it has none, and needs a
    /// prefix, as for the incumbent's agent.
    fn wanted_route(&self) -> Result<(RouteSpec, Self), FieldError> {
        let dest = given(self.dest.as_deref()).unwrap_or(DEFAULT);
        if dest != DEFAULT && !dest.contains('/') {
            return Err(InvalidValue::new(dest, DEST_WITHOUT_PREFIX).in_field("dest"));
        }
        self.spec(self.checked(dest)?)
    }

    /// Checks a pattern of routes to delete.
    pub(crate) fn pattern(&self) -> Result<(RoutePattern, Self), FieldError> {
        let dest = self.required_dest(DELETE_WITHOUT_DEST)?;
        let (mut pattern, echo) = self.checked(dest)?;
        if let (Destination::Default, Some(family)) = (pattern.dest, self.family()?) {
            pattern.dest = Destination::Net(default_net(family));
        }
        if let Destination::Net(net) = pattern.dest {
            // No route could match addresses of several families.
            let as_route = pattern.clone().with_dest_and_device(net, ());
            as_route.checked()?;
        }
        Ok((pattern, echo))
    }

    fn required_dest(&self, rule: &'static str) -> Result<&str, FieldError> {
        let missing = || FieldError::missing_by_rule("dest", rule);
        given(self.dest.as_deref()).ok_or_else(missing)
    }

    /// Checks each field, but not against the others. Returns the route with its echo: the request
    /// in the keys in which it can be repeated.
    fn checked(&self, dest: &str) -> Result<(RoutePattern, Self), FieldError> {
        let (destination, dest_echo) =
            parse_dest(dest).map_err(|invalid| invalid.in_field("dest"))?;
        let device = self.device.as_deref().filter(|text| !text.is_empty());
        let device = device.map(str::parse).transpose();
        let pattern = RoutePattern {
            dest: destination,
            gateway: address(self.gateway.as_deref(), "gateway")?,
            source: address(self.source.as_deref(), "source")?,
            device: device.map_err(|invalid: InvalidValue| invalid.in_field("device"))?,
            scope: number(self.scope, "scope")?,
            metric: self.metric,
            onlink: Onlink::from(self.onlink || self.flags()? & ONLINK_FLAG != 0),
            mtu: number(unless_zero(self.mtu), "mtu")?,
            protocol: number(unless_zero(self.protocol), "protocol")?,
            table: number(unless_zero(self.table), "table")?.unwrap_or(RouteTable::MAIN),
        };
        self.check_family(&pattern)?;
        self.check_type()?;
        let echo = Self {
            dest: Some(dest_echo),
            gateway: pattern.gateway.map(|ip| ip.to_string()),
            device: pattern.device.as_ref().map(ToString::to_string),
            source: pattern.source.map(|ip| ip.to_string()),
            ..self.clone()
        };
        Ok((pattern, echo))
    }

    /// Returns the flags, which only a new route or a pattern with `onlink` has.
    fn flags(&self) -> Result<u32, FieldError> {
        let flags = self.flags.unwrap_or(0);
        if flags & !ONLINK_FLAG != 0 {
            let rule = "only 4 (onlink) can be set; the others are states of the kernel";
            return Err(InvalidValue::new(&flags, rule).in_field("flags"));
        }
        Ok(flags)
    }

    fn family(&self) -> Result<Option<Family>, FieldError> {
        let family = self.family.as_ref().map(FamilyText::family).transpose();
        Ok(family.map_err(|bad| bad.in_field("family"))?.flatten())
    }

    fn check_family(&self, pattern: &RoutePattern) -> Result<(), FieldError> {
        let Some(family) = &self.family else {
            return Ok(());
        };
        let net = match pattern.dest {
            Destination::Default => None,
            Destination::Net(net) => Some(net.addr()),
        };
        let addresses = [net, pattern.gateway, pattern.source].into_iter().flatten();
        family
            .check(addresses)
            .map_err(|bad| bad.in_field("family"))
    }

    fn check_type(&self) -> Result<(), FieldError> {
        match given(self.kind.as_deref()) {
            None | Some("unicast") => Ok(()),
            Some(other) => {
                let rule = "only routes of type unicast are supported";
                Err(InvalidValue::new(other, rule).in_field("type"))
            }
        }
    }

    /// Checks the fields of a route to add against each other.
    fn spec(&self, checked: (RoutePattern, Self)) -> Result<(RouteSpec, Self), FieldError> {
        let (pattern, echo) = checked;
        let dest = match (pattern.dest, pattern.gateway.or(pattern.source)) {
            (Destination::Net(net), _) => net,
            (Destination::Default, Some(ip)) => default_net(Family::of(ip)),
            (Destination::Default, None) => default_net(self.family()?.unwrap_or(Family::V4)),
        };
        let missing = || FieldError::missing_by_rule("device", ROUTE_INCOMPLETE);
        let device = pattern.device.clone().ok_or_else(missing)?;
        let spec = RouteSpec::new(pattern.with_dest_and_device(dest, device))?;
        Ok((spec, echo))
    }

    /// The route as `route list` prints it: scope, metric, protocol and source always.
    pub(crate) fn complete(route: &Route) -> Self {
        Self {
            source: route.source.map(|source| source.to_string()),
            scope: Some(route.scope.get().into()),
            metric: Some(route.metric),
            protocol: route.protocol.map(|protocol| protocol.get().into()),
            ..Self::from(route)
        }
    }
}

impl From<&Route> for RouteText {
    /// The route as `list-routes` prints it, and as a request for the same route. Fields with their
    /// default are left out, and so are those that the kernel chose for a connected route: the
    /// incumbent prints only the first three.
    fn from(route: &Route) -> Self {
        let is_connected = route.is_connected() || route.protocol.is_none();
        let by_kernel = is_connected && route.gateway.is_none();
        let chosen = |protocol: RouteProtocol| (!by_kernel).then_some(protocol);
        let protocol = route.protocol.and_then(chosen);
        Self {
            dest: Some(match (route.dest.prefix_len(), route.gateway) {
                // Without a gateway, `default` would not have a family.
                (0, Some(_)) => DEFAULT.to_owned(),
                _ => route.dest.to_string(),
            }),
            gateway: route.gateway.map(|gateway| gateway.to_string()),
            device: Some(route.device.to_string()),
            source: route.source.filter(|_| !by_kernel).map(|ip| ip.to_string()),
            scope: unless_default(route.scope, route.default_scope()).map(|s| s.get().into()),
            metric: unless_default(route.metric, route.default_metric()),
            table: unless_default(route.table, RouteTable::MAIN).map(RouteTable::get),
            mtu: route.mtu.map(|mtu| mtu.get().into()),
            protocol: protocol
                .and_then(|protocol| unless_default(protocol, RouteProtocol::BOOT))
                .map(|protocol| protocol.get().into()),
            onlink: route.onlink == Onlink::On,
            ..Self::default()
        }
    }
}

fn unless_default<T: Copy + PartialEq>(value: T, default: T) -> Option<T> {
    (value != default).then_some(value)
}

/// Drops a 0, which Go can't distinguish from an absent number.
fn unless_zero(number: Option<u32>) -> Option<u32> {
    number.filter(|number| *number != 0)
}

fn number<T: TryFrom<u64, Error = InvalidValue>>(
    number: Option<u32>,
    field: &str,
) -> Result<Option<T>, FieldError> {
    let number = number.map(|number| T::try_from(number.into())).transpose();
    number.map_err(|invalid| invalid.in_field(field))
}

fn default_net(family: Family) -> IpNet {
    match family {
        Family::V4 => Ipv4Net::default().into(),
        Family::V6 => Ipv6Net::default().into(),
    }
}
