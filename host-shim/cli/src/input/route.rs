//! Routes in the incumbent's JSON: one object, or an array of them.

use std::net::IpAddr;
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use patchbay_types::failure::Failure;
use patchbay_types::{
    Destination, FieldError, IfName, InvalidValue, MAX_ROUTES, RouteFields, RoutePattern,
    RouteSpec, Scope, Way,
};
use serde::Deserialize;
use serde_json::Value;

use super::document::Document;
use crate::output::Routed;

/// A route as it was written, nothing checked but JSON types.
#[derive(Debug, Clone, Default, Deserialize)]
struct RawRoute {
    dest: Option<String>,
    gateway: Option<String>,
    device: Option<String>,
    source: Option<String>,
    scope: Option<u32>,
    metric: Option<u32>,
}

const DEFAULT: &str = "default";
const MISSING: &str = "device and destination must be specified";
const BAD_DEST: &str = "invalid input of IP: a destination is 'default', or an IPv4 or IPv6 address with or without a prefix";
const BAD_IP: &str = "invalid IP: an IPv4 or IPv6 address is needed";

/// Reads routes for `add-route`, each with its echo.
pub(crate) fn to_add(path: &Path) -> Result<Vec<(RouteSpec, Routed)>, Failure> {
    some(&Document::read(path)?, |raw| {
        let text = given(raw.dest.as_deref());
        let text = text.ok_or_else(|| InvalidValue::new("", MISSING).in_field("dest"))?;
        Asked::read(raw, text)?.new_route()
    })
}

/// Reads patterns for `del-route`, each with its echo.
pub(crate) fn to_delete(path: &Path) -> Result<Vec<(RoutePattern, Routed)>, Failure> {
    some(&Document::read(path)?, |raw| {
        let rule = "destination must be specified when remove route";
        let text = given(raw.dest.as_deref());
        let text = text.ok_or_else(|| InvalidValue::new("", rule).in_field("dest"))?;
        Asked::read(raw, text)?.pattern()
    })
}

/// Reads all the routes that there shall be, for `update-routes`; `None` for JSON `null`. Here, as
/// for the incumbent, an address without a prefix is no destination, and none is the default.
pub(crate) fn wanted(path: &Path) -> Result<Option<Vec<(RouteSpec, Routed)>>, Failure> {
    let document = Document::read(path)?;
    match document.value() {
        Value::Null => Ok(None),
        Value::Array(_) => some(&document, |raw| {
            let text = given(raw.dest.as_deref()).unwrap_or(DEFAULT);
            if text != DEFAULT && !text.contains('/') {
                let rule = "Could not parse route destination: it needs a prefix";
                return Err(InvalidValue::new(text, rule).in_field("dest"));
            }
            Asked::read(raw, text)?.route()
        })
        .map(Some),
        _ => Err(document.holds_no("routes", "a JSON array is needed")),
    }
}

/// Reads each route of an array, or the one that the document is; a refusal names its place.
fn some<T>(
    document: &Document,
    read: impl Fn(&RawRoute) -> Result<T, FieldError>,
) -> Result<Vec<T>, Failure> {
    let one = |value: &Value| -> Result<RawRoute, Failure> {
        match value {
            Value::Object(_) => document.read_as(value, "routes"),
            _ => Err(document.holds_no("routes", "a route is a JSON object")),
        }
    };
    let Value::Array(values) = document.value() else {
        return Ok(vec![read(&one(document.value())?)?]);
    };
    if values.len() > MAX_ROUTES {
        let cause = format!(
            "it has {} routes, and a request at most {MAX_ROUTES}",
            values.len()
        );
        return Err(document.holds_no("routes", cause));
    }
    let place = |(index, value)| {
        let place = format!("[{index}]");
        let raw = one(value).map_err(|failure| failure.with_cause(format!("at {place}")))?;
        read(&raw).map_err(|invalid| invalid.nested_in(&place).into())
    };
    values.iter().enumerate().map(place).collect()
}

/// Go can't tell absent from empty, and blanks around a value mean nothing.
fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

fn ip(text: Option<&str>, field: &str) -> Result<Option<IpAddr>, FieldError> {
    let parse = |text: &str| {
        text.parse()
            .map_err(|_| InvalidValue::new(text, BAD_IP).in_field(field))
    };
    given(text).map(parse).transpose()
}

/// A destination, and how it is repeated: host bits and spelling are kept, a missing prefix added.
#[derive(Debug, Clone)]
pub(crate) struct Dest {
    destination: Destination,
    text: String,
}

/// Reads `default`, an address, or an address with a prefix length.
pub(crate) fn dest(text: &str) -> Result<Dest, InvalidValue> {
    if text == DEFAULT {
        return Ok(Dest {
            destination: Destination::Default,
            text: text.to_owned(),
        });
    }
    let bad = || InvalidValue::new(text, BAD_DEST);
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let host = if address.is_ipv4() { 32 } else { 128 };
    // CounterFormat only: u8::from_str would take a sign.
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let bits = match prefix {
        None => host,
        Some(prefix) if digits(prefix) => prefix.parse().map_err(|_| bad())?,
        Some(_) => return Err(bad()),
    };
    let net = IpNet::new(address, bits).map_err(|_| bad())?;
    Ok(Dest {
        destination: Destination::Net(net),
        text: match prefix {
            Some(_) => text.to_owned(),
            None => format!("{text}/{host}"),
        },
    })
}

/// A route, or what is known of one, each value checked but not yet against the others.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) dest: Dest,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) device: Option<IfName>,
    pub(crate) scope: Option<Scope>,
    pub(crate) metric: Option<u32>,
}

impl Asked {
    fn read(raw: &RawRoute, text: &str) -> Result<Self, FieldError> {
        let device = raw.device.as_deref().filter(|text| !text.is_empty());
        let device = device.map(str::parse).transpose();
        let scope = raw.scope.map(|number| Scope::try_from(u64::from(number)));
        Ok(Self {
            dest: dest(text).map_err(|bad| bad.in_field("dest"))?,
            gateway: ip(raw.gateway.as_deref(), "gateway")?,
            source: ip(raw.source.as_deref(), "source")?,
            device: device.map_err(|bad: InvalidValue| bad.in_field("device"))?,
            scope: scope.transpose().map_err(|bad| bad.in_field("scope"))?,
            metric: raw.metric,
        })
    }

    /// A route to add: by the guide a default route has a gateway.
    pub(crate) fn new_route(self) -> Result<(RouteSpec, Routed), FieldError> {
        if self.dest.text == DEFAULT && self.gateway.is_none() {
            let rule = "gateway must be specified when destination is \"default\"";
            return Err(InvalidValue::new("", rule).in_field("gateway"));
        }
        self.route()
    }

    fn route(self) -> Result<(RouteSpec, Routed), FieldError> {
        let echo = self.echo();
        let dest = match (self.dest.destination, self.gateway.or(self.source)) {
            (Destination::Net(net), _) => net,
            (Destination::Default, Some(IpAddr::V6(_))) => Ipv6Net::default().into(),
            (Destination::Default, _) => Ipv4Net::default().into(),
        };
        let needed = || InvalidValue::new("", MISSING).in_field("device");
        let spec = RouteSpec::new(RouteFields {
            dest,
            gateway: self.gateway,
            source: self.source,
            device: self.device.ok_or_else(needed)?,
            scope: self.scope,
            metric: self.metric,
        })?;
        Ok((spec, echo))
    }

    /// Routes to delete.
    pub(crate) fn pattern(self) -> Result<(RoutePattern, Routed), FieldError> {
        let echo = self.echo();
        if let Destination::Net(net) = self.dest.destination {
            // Nothing could ever agree with a way that no route can have.
            Way::new(net, self.gateway, self.source)?;
        }
        let pattern = RoutePattern {
            dest: self.dest.destination,
            gateway: self.gateway,
            source: self.source,
            device: self.device,
            scope: self.scope,
            metric: self.metric,
        };
        Ok((pattern, echo))
    }

    /// What was asked, in the keys in which it can be asked again.
    fn echo(&self) -> Routed {
        Routed {
            dest: self.dest.text.clone(),
            gateway: self.gateway.map(|ip| ip.to_string()),
            device: self.device.as_ref().map(ToString::to_string),
            source: self.source.map(|ip| ip.to_string()),
            scope: self.scope.map(Scope::get),
            metric: self.metric,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use patchbay_types::failure::Kind;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn added(text: &str) -> Result<String, Failure> {
        let echo = to_add(file(text).path())?.into_iter().map(|(_, echo)| echo);
        Ok(serde_json::to_string(&echo.collect::<Vec<_>>()).unwrap())
    }

    #[test]
    fn the_echo_is_what_was_written_and_can_be_given_again() {
        for (text, echo) in [
            (
                r#"{"dest":"default","gateway":"172.16.0.1","device":"eth-test"}"#,
                r#"[{"dest":"default","gateway":"172.16.0.1","device":"eth-test"}]"#,
            ),
            (
                r#"{"dest":"172.17.10.10/24","gateway":"","device":"eth1"}"#,
                r#"[{"dest":"172.17.10.10/24","device":"eth1"}]"#,
            ),
            (
                r#"[{"DEST":"10.1.2.3","Device":"lo","other":[1]}]"#,
                r#"[{"dest":"10.1.2.3/32","device":"lo"}]"#,
            ),
            (
                r#"{"dest":"FD00::1","gateway":" fe80::1 ","device":"e","metric":5}"#,
                r#"[{"dest":"FD00::1/128","gateway":"fe80::1","device":"e","metric":5}]"#,
            ),
            (
                r#"{"dest":"10.0.0.0/8","device":"e","source":"10.0.0.2","scope":253}"#,
                r#"[{"dest":"10.0.0.0/8","device":"e","source":"10.0.0.2","scope":253}]"#,
            ),
        ] {
            assert_eq!(added(text).unwrap(), echo);
            assert_eq!(added(echo).unwrap(), echo);
        }
    }

    #[track_caller]
    fn faulty(cases: &[(&str, &str, &str)]) {
        for (text, field, rule) in cases {
            let failure = added(text).unwrap_err();
            assert_eq!(failure.kind(), Kind::Invalid, "{text}");
            assert_eq!(failure.field(), Some(*field), "{text}");
            assert!(failure.to_string().contains(rule), "{text}: {failure}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        faulty(&[
            (r#"{"device":"e"}"#, "dest", MISSING),
            (r#"{"dest":"10.0.0.0/8"}"#, "device", MISSING),
            (r#"{"dest":"default","device":"e"}"#, "gateway", "specified"),
            (r#"[{"dest":"::","device":"e"},{}]"#, "[1].dest", MISSING),
        ]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_rule() {
        let ip = "invalid IP: ";
        let net = "invalid input of IP";
        let name = "15 characters";
        faulty(&[
            (r#"{"dest":"10.0.0.0/33","device":"e"}"#, "dest", net),
            (r#"{"dest":"10.0.0.0/+8","device":"e"}"#, "dest", net),
            (r#"{"dest":"10.0.0/8","device":"e"}"#, "dest", net),
            (
                r#"{"dest":"::","device":"e","gateway":"10"}"#,
                "gateway",
                ip,
            ),
            (r#"{"dest":"::","device":"e","source":"x"}"#, "source", ip),
            (
                r#"{"dest":"::","device":"eeeeeeeeeeeeeeee"}"#,
                "device",
                name,
            ),
            (r#"{"dest":"::","device":" e"}"#, "device", name),
            (
                r#"{"dest":"0.0.0.0","device":"e","scope":255}"#,
                "scope",
                "254",
            ),
            (
                r#"{"dest":"::","device":"e","gateway":"1.1.1.1"}"#,
                "gateway",
                "families",
            ),
        ]);
    }

    #[test]
    fn a_document_that_holds_no_routes_is_refused() {
        for text in ["null", "7", "[null]", "[[]]", r#"{"dest":5}"#, "", "{"] {
            assert_eq!(added(text).unwrap_err().kind(), Kind::Invalid, "{text}");
        }
        assert_eq!(added("[]").unwrap(), "[]");
    }

    #[test]
    fn an_update_reads_null_and_wants_prefixes() {
        let wanted = |text| wanted(file(text).path());
        assert_eq!(wanted("null").unwrap(), None);
        assert_eq!(wanted("[]").unwrap(), Some(vec![]));
        let default = wanted(r#"[{"device":"eth1","scope":1}]"#).unwrap().unwrap();
        assert_eq!(default[0].0.way().dest().to_string(), "0.0.0.0/0");
        let failure = wanted(r#"[{"dest":"10.1.2.3","device":"eth1"}]"#).unwrap_err();
        assert_eq!(failure.field(), Some("[0].dest"));
        assert!(
            failure
                .to_string()
                .contains("Could not parse route destination"),
            "{failure}"
        );
        assert_eq!(
            wanted(r#"{"dest":"10.0.0.0/8"}"#).unwrap_err().kind(),
            Kind::Invalid
        );
    }
}
