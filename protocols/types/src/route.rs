//! Routes: requested, listed by the kernel, and patterns that select listed ones.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{FieldError, IfName, InvalidValue, Scope};

/// Maximum number of routes in one message. With at most 86 bytes each they fit ttrpc's 4 MiB.
pub const MAX_ROUTES: usize = 32_768;

/// Metric of an IPv6 route that is requested without one (`IP6_RT_PRIO_USER`, `linux/ipv6_route.h`).
const IPV6_METRIC: u32 = 1024;

/// Fields of a route. The type parameters are the fields that one form always has and another can
/// leave open; a field that is optional in every form needs no parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteFields<Dest, Device, S = Option<Scope>, Metric = Option<u32>> {
    /// Destination.
    pub dest: Dest,
    /// Next hop; `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Interface in the guest.
    pub device: Device,
    /// `rtm_scope`.
    pub scope: S,
    /// Order among the routes to one destination, lowest first (`RTA_PRIORITY`).
    pub metric: Metric,
}

/// Fields of a route request. Without a scope it is universe through a gateway and link otherwise,
/// without a metric the kernel's default.
pub type RouteRequest = RouteFields<IpNet, IfName>;

/// Unicast route of the main table, as the kernel lists it. The name of the device has at most 15
/// bytes, of any characters.
pub type Route = RouteFields<IpNet, String, Scope, u32>;

/// Pattern that matches the routes which have all of its fields.
pub type RoutePattern = RouteFields<Destination, Option<IfName>>;

/// Destination of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Default route of either family.
    Default,
    /// This network.
    Net(IpNet),
}

/// A route request whose fields fit each other.
///
/// ```
/// use patchbay_types::{RouteRequest, RouteSpec};
///
/// let request = RouteRequest {
///     dest: "10.1.2.3/8".parse()?,
///     gateway: Some("192.0.2.1".parse()?),
///     source: None,
///     device: "eth1".parse()?,
///     scope: None,
///     metric: None,
/// };
/// let spec = RouteSpec::new(request.clone())?;
/// assert_eq!(spec.resolve().to_string(), "10.0.0.0/8 via 192.0.2.1 dev eth1");
///
/// let mixed = RouteRequest { gateway: Some("fd00::1".parse()?), ..request };
/// assert_eq!(RouteSpec::new(mixed).unwrap_err().field(), "gateway");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec(RouteRequest);

impl<Device, S, Metric> RouteFields<IpNet, Device, S, Metric> {
    /// Drops the host bits of the destination, as the kernel does, and checks the addresses.
    ///
    /// # Errors
    /// A gateway or source that is not a unicast address of the destination's family.
    pub fn checked(mut self) -> Result<Self, FieldError> {
        self.dest = self.dest.trunc();
        check_address("gateway", self.gateway, self.dest)?;
        check_address("source", self.source, self.dest)?;
        Ok(self)
    }
}

impl<Dest, Device, S, Metric> RouteFields<Dest, Device, S, Metric> {
    /// Replaces destination and device, which changes the form of the route.
    pub fn with_dest_and_device<D, I>(self, dest: D, device: I) -> RouteFields<D, I, S, Metric> {
        RouteFields {
            dest,
            gateway: self.gateway,
            source: self.source,
            device,
            scope: self.scope,
            metric: self.metric,
        }
    }
}

fn check_address(field: &str, ip: Option<IpAddr>, dest: IpNet) -> Result<(), FieldError> {
    let Some(ip) = ip else {
        return Ok(());
    };
    let invalid = |rule| Err(InvalidValue::new(&ip, rule).in_field(field));
    if ip.is_unspecified() || ip.is_multicast() {
        return invalid("a route needs a unicast address here");
    }
    match (dest, ip) {
        (IpNet::V4(_), IpAddr::V6(_)) => {
            invalid("the destination is an IPv4 network, and the families must agree")
        }
        (IpNet::V6(_), IpAddr::V4(_)) => {
            invalid("the destination is an IPv6 network, and the families must agree")
        }
        _ => Ok(()),
    }
}

impl RouteSpec {
    /// Checks the fields against each other.
    ///
    /// # Errors
    /// Those of [`RouteFields::checked`], and a scope other than 0 for IPv6, whose routes have none.
    pub fn new(request: RouteRequest) -> Result<Self, FieldError> {
        let request = request.checked()?;
        match (request.dest, request.scope) {
            (IpNet::V6(_), Some(scope)) if scope != Scope::UNIVERSE => {
                let scope = scope.get().to_string();
                let invalid = InvalidValue::new(&scope, "an IPv6 route has no scope other than 0");
                Err(invalid.in_field("scope"))
            }
            _ => Ok(Self(request)),
        }
    }

    /// The fields, with the host bits of the destination cleared.
    #[must_use]
    pub fn fields(&self) -> &RouteRequest {
        &self.0
    }

    /// Returns the route that the kernel creates for the request.
    #[must_use]
    pub fn resolve(&self) -> Route {
        let request = self.0.clone();
        let default_scope = match (request.dest, request.gateway) {
            (IpNet::V4(_), None) => Scope::LINK,
            _ => Scope::UNIVERSE,
        };
        let metric = request.metric.unwrap_or(0);
        Route {
            dest: request.dest,
            gateway: request.gateway,
            source: request.source,
            device: request.device.to_string(),
            scope: request.scope.unwrap_or(default_scope),
            // The kernel treats an IPv6 metric of 0 as none.
            metric: match request.dest {
                IpNet::V6(_) if metric == 0 => IPV6_METRIC,
                _ => metric,
            },
        }
    }

    /// Returns the pattern that matches the routes with the fields of the request.
    #[must_use]
    pub fn pattern(&self) -> RoutePattern {
        let (dest, device) = (Destination::Net(self.0.dest), self.0.device.clone());
        self.0.clone().with_dest_and_device(dest, Some(device))
    }

    /// Returns whether `route` satisfies the request. Fields that the request leaves open match any
    /// value, except gateway and metric.
    #[must_use]
    pub fn matches(&self, route: &Route) -> bool {
        self.pattern().matches(route)
            && self.resolve().metric == route.metric
            && self.0.gateway == route.gateway
    }
}

impl Route {
    /// Destination and metric, which together are unique in a table that is written without
    /// `NLM_F_APPEND`.
    #[must_use]
    pub fn identity(&self) -> (IpNet, u32) {
        (self.dest, self.metric)
    }
}

impl RoutePattern {
    /// Returns whether `route` has every field of the pattern.
    #[must_use]
    pub fn matches(&self, route: &Route) -> bool {
        let to = match self.dest {
            Destination::Default => route.dest.prefix_len() == 0,
            Destination::Net(net) => route.dest == net.trunc(),
        };
        let device = self.device.as_ref();
        to && matches_if_set(self.gateway, route.gateway)
            && matches_if_set(self.source, route.source)
            && device.is_none_or(|device| device.as_str() == route.device)
            && matches_if_set(self.scope, Some(route.scope))
            && matches_if_set(self.metric, Some(route.metric))
    }
}

fn matches_if_set<T: PartialEq + Copy>(wanted: Option<T>, found: Option<T>) -> bool {
    wanted.is_none() || wanted == found
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::Net(net) => net.trunc().fmt(f),
        }
    }
}

/// The words of iproute2, as far as they identify a route to an operator.
fn display(
    f: &mut fmt::Formatter<'_>,
    dest: impl fmt::Display,
    gateway: Option<IpAddr>,
    device: Option<&str>,
) -> fmt::Result {
    dest.fmt(f)?;
    if let Some(gateway) = gateway {
        write!(f, " via {gateway}")?;
    }
    device.map_or(Ok(()), |device| write!(f, " dev {device}"))
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(f, self.dest, self.gateway, Some(&self.device))
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device.as_ref().map(IfName::as_str);
        display(f, self.dest, self.gateway, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(
        dest: &str,
        gateway: Option<&str>,
        scope: Option<u64>,
    ) -> Result<RouteSpec, FieldError> {
        RouteSpec::new(RouteRequest {
            dest: dest.parse().unwrap(),
            gateway: gateway.map(|ip| ip.parse().unwrap()),
            source: None,
            device: "eth1".parse().unwrap(),
            scope: scope.map(|number| Scope::try_from(number).unwrap()),
            metric: None,
        })
    }

    #[test]
    fn resolve_omitted_fields_uses_kernel_defaults() {
        let on_link = spec("172.17.10.10/24", None, None).unwrap().resolve();
        assert_eq!(on_link.to_string(), "172.17.10.0/24 dev eth1");
        assert_eq!((on_link.scope.get(), on_link.metric), (253, 0));
        let routed = spec("10.0.0.0/8", Some("10.0.0.1"), None)
            .unwrap()
            .resolve();
        assert_eq!((routed.scope.get(), routed.metric), (0, 0));
        let v6 = spec("fd01::/64", None, Some(0)).unwrap().resolve();
        assert_eq!((v6.scope.get(), v6.metric), (0, 1024));
    }

    #[test]
    fn spec_conflicting_fields_names_the_field() {
        for (dest, gateway, scope, field, rule) in [
            ("10.0.0.0/8", Some("fd00::1"), None, "gateway", "families"),
            ("fd00::/64", Some("10.0.0.1"), None, "gateway", "families"),
            ("10.0.0.0/8", Some("0.0.0.0"), None, "gateway", "unicast"),
            ("10.0.0.0/8", Some("224.0.0.1"), None, "gateway", "unicast"),
            ("fd00::/64", None, Some(253), "scope", "no scope"),
        ] {
            let error = spec(dest, gateway, scope).unwrap_err();
            assert_eq!(error.field(), field);
            assert!(error.to_string().contains(rule), "{error}");
        }
    }

    #[test]
    fn pattern_matches_only_its_own_fields() {
        let route = spec("172.16.0.0/16", Some("172.16.0.1"), None)
            .unwrap()
            .resolve();
        let pattern = RoutePattern {
            dest: Destination::Net("172.16.3.4/16".parse().unwrap()),
            gateway: None,
            source: None,
            device: None,
            scope: None,
            metric: None,
        };
        assert!(pattern.matches(&route));
        let other = RoutePattern {
            gateway: Some("172.16.0.2".parse().unwrap()),
            ..pattern.clone()
        };
        assert!(!other.matches(&route));
        let default = RoutePattern {
            dest: Destination::Default,
            ..pattern
        };
        assert!(!default.matches(&route));
        for dest in ["0.0.0.0/0", "::/0"] {
            assert!(
                default.matches(&spec(dest, None, None).unwrap().resolve()),
                "{dest}"
            );
        }
    }
}
