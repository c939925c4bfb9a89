//! Text form of routes: JSON documents (one object or an array), command-line flags and output.

#[cfg(test)]
mod tests;

use std::net::{AddrParseError, IpAddr};
use std::path::Path;

use clap::Args;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use patchbay_types::failure::Failure;
use patchbay_types::{
    Destination, FieldError, IfName, InvalidValue, MAX_ROUTES, Route, RoutePattern, RouteSpec,
    Scope,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kata_messages::{
    DEFAULT_WITHOUT_GATEWAY, DELETE_WITHOUT_DEST, DEST_WITHOUT_PREFIX, INVALID_ADDRESS,
    INVALID_DEST, ROUTE_INCOMPLETE,
};

use super::document::Document;
use super::prefix_length;

const DEFAULT: &str = "default";

/// Route as text: an object of a JSON document, the flags of `route add` and `route del`, and an
/// object of the output. Keys and their order are the incumbent's, except for the added `metric`.
/// JSON input is unchecked; each flag is checked and normalized by its parser.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize, Serialize)]
pub(crate) struct RouteText {
    /// Destination: ADDRESS, ADDRESS/PREFIX or default
    #[arg(long, required = true, value_parser = flag_dest)]
    pub(crate) dest: Option<String>,
    /// Gateway; without one the destination is on the link
    #[arg(long = "via", value_name = "ADDRESS", value_parser = flag_address)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<String>,
    /// Interface in the guest
    #[arg(long = "dev", value_name = "NAME", value_parser = flag_device)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
    /// Preferred source address
    #[arg(long = "src", value_name = "ADDRESS", value_parser = flag_address)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// 0 universe, 200 site, 253 link, 254 host [default: universe with a gateway, else link]
    #[arg(long, value_name = "NUMBER", value_parser = flag_scope)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<u32>,
    /// Order among the routes to one destination, lowest first
    #[arg(long, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metric: Option<u32>,
}

fn flag_dest(text: &str) -> Result<String, InvalidValue> {
    parse_dest(text).map(|(_, echo)| echo)
}

fn flag_address(text: &str) -> Result<String, AddrParseError> {
    text.parse().map(|address: IpAddr| address.to_string())
}

fn flag_device(text: &str) -> Result<String, InvalidValue> {
    text.parse().map(|name: IfName| name.to_string())
}

fn flag_scope(text: &str) -> Result<u32, InvalidValue> {
    let number: Result<u64, _> = text.parse();
    let number = number.map_err(|_| InvalidValue::new(text, "a scope is 0 to 254"))?;
    Scope::try_from(number).map(|scope| scope.get().into())
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
        Value::Array(_) => each(&document, |text| {
            let dest = given(text.dest.as_deref()).unwrap_or(DEFAULT);
            if dest != DEFAULT && !dest.contains('/') {
                return Err(InvalidValue::new(dest, DEST_WITHOUT_PREFIX).in_field("dest"));
            }
            spec(text.checked(dest)?)
        })
        .map(Some),
        _ => Err(document.missing("routes", "a JSON array is needed")),
    }
}

/// Reads each route of an array, or the single route of the document. Errors name the position.
fn each<T>(
    document: &Document,
    read: impl Fn(&RouteText) -> Result<T, FieldError>,
) -> Result<Vec<T>, Failure> {
    let one = |value: &Value| -> Result<RouteText, Failure> {
        match value {
            Value::Object(_) => document.read_as(value, "routes"),
            _ => Err(document.missing("routes", "a route is a JSON object")),
        }
    };
    let Value::Array(values) = &document.value else {
        return Ok(vec![read(&one(&document.value)?)?]);
    };
    if values.len() > MAX_ROUTES {
        let count = values.len();
        let cause = format!("it has {count} routes, and a request at most {MAX_ROUTES}");
        return Err(document.missing("routes", cause));
    }
    let at_position = |(index, value)| {
        let position = format!("[{index}]");
        let text = one(value).map_err(|failure| failure.with_cause(format!("at {position}")))?;
        read(&text).map_err(|invalid| invalid.nested_in(&position).into())
    };
    values.iter().enumerate().map(at_position).collect()
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
            return Err(InvalidValue::new("", DEFAULT_WITHOUT_GATEWAY).in_field("gateway"));
        }
        spec(checked)
    }

    /// Checks a pattern of routes to delete.
    pub(crate) fn pattern(&self) -> Result<(RoutePattern, Self), FieldError> {
        let dest = self.required_dest(DELETE_WITHOUT_DEST)?;
        let (pattern, echo) = self.checked(dest)?;
        if let Destination::Net(net) = pattern.dest {
            // No route could match addresses of several families.
            let as_route = pattern.clone().with_dest_and_device(net, ());
            as_route.checked()?;
        }
        Ok((pattern, echo))
    }

    fn required_dest(&self, rule: &'static str) -> Result<&str, FieldError> {
        let missing = || InvalidValue::new("", rule).in_field("dest");
        given(self.dest.as_deref()).ok_or_else(missing)
    }

    /// Checks each field, but not against the others. Returns the route with its echo: the request
    /// in the keys in which it can be repeated.
    fn checked(&self, dest: &str) -> Result<(RoutePattern, Self), FieldError> {
        let (destination, dest_echo) =
            parse_dest(dest).map_err(|invalid| invalid.in_field("dest"))?;
        let device = self.device.as_deref().filter(|text| !text.is_empty());
        let device = device.map(str::parse).transpose();
        let scope = self.scope.map(|number| Scope::try_from(u64::from(number)));
        let pattern = RoutePattern {
            dest: destination,
            gateway: address(self.gateway.as_deref(), "gateway")?,
            source: address(self.source.as_deref(), "source")?,
            device: device.map_err(|invalid: InvalidValue| invalid.in_field("device"))?,
            scope: scope.transpose().map_err(|bad| bad.in_field("scope"))?,
            metric: self.metric,
        };
        let echo = Self {
            dest: Some(dest_echo),
            gateway: pattern.gateway.map(|ip| ip.to_string()),
            device: pattern.device.as_ref().map(ToString::to_string),
            source: pattern.source.map(|ip| ip.to_string()),
            ..self.clone()
        };
        Ok((pattern, echo))
    }

    /// The route as `route list` prints it, with every field.
    pub(crate) fn complete(route: Route) -> Self {
        Self {
            source: route.source.map(|source| source.to_string()),
            scope: Some(route.scope.get().into()),
            metric: Some(route.metric),
            ..Self::from(route)
        }
    }
}

impl From<Route> for RouteText {
    /// The route as `list-routes` prints it: the incumbent leaves out source and scope.
    fn from(route: Route) -> Self {
        Self {
            dest: Some(match route.dest.prefix_len() {
                0 => DEFAULT.to_owned(),
                _ => route.dest.to_string(),
            }),
            gateway: route.gateway.map(|gateway| gateway.to_string()),
            device: Some(route.device),
            ..Self::default()
        }
    }
}

/// Checks the fields of a route to add against each other.
fn spec((pattern, echo): (RoutePattern, RouteText)) -> Result<(RouteSpec, RouteText), FieldError> {
    let dest = match (pattern.dest, pattern.gateway.or(pattern.source)) {
        (Destination::Net(net), _) => net,
        (Destination::Default, Some(IpAddr::V6(_))) => Ipv6Net::default().into(),
        (Destination::Default, _) => Ipv4Net::default().into(),
    };
    let missing = || InvalidValue::new("", ROUTE_INCOMPLETE).in_field("device");
    let device = pattern.device.clone().ok_or_else(missing)?;
    let spec = RouteSpec::new(pattern.with_dest_and_device(dest, device))?;
    Ok((spec, echo))
}
