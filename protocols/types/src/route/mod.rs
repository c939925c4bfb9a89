//! Routes: requested, listed by the kernel, and patterns that select listed ones.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{FieldError, InvalidValue, LinkName, RouteMtu, RouteProtocol, RouteTable, Scope};

/// Maximum number of routes in one message. With at most 90 bytes each they fit ttrpc's 4 MiB.
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
    /// Whether the gateway is on the link although no route reaches it.
    pub onlink: Onlink,
    /// Maximum size of packets to the destination; `None`: that of the interface.
    pub mtu: Option<RouteMtu>,
    /// Program that made the route. `None` in a request: boot; in a list: the agent doesn't report it.
    pub protocol: Option<RouteProtocol>,
    /// Routing table.
    pub table: RouteTable,
}

/// `RTNH_F_ONLINK` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Onlink {
    /// The kernel requires a route to the gateway. In a pattern: any route.
    Off,
    /// The gateway is taken to be on the link.
    On,
}

impl From<bool> for Onlink {
    /// Converts the flag of JSON, wire and kernel.
    fn from(set: bool) -> Self {
        if set { Self::On } else { Self::Off }
    }
}

/// Fields of a route request. Without a scope it is universe through a gateway and link otherwise,
/// without a metric the kernel's default.
pub type RouteRequest = RouteFields<IpNet, LinkName>;

/// Unicast route, as the kernel lists it.
pub type Route = RouteFields<IpNet, LinkName, Scope, u32>;

/// Pattern that matches the routes of a table which have all of its fields.
pub type RoutePattern = RouteFields<Destination, Option<LinkName>>;

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
///     gateway: Some("192.0.2.1".parse()?),
///     ..RouteRequest::open("10.1.2.3/8".parse()?, "eth1".parse()?)
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

impl<Dest, Device> RouteFields<Dest, Device> {
    /// Leaves every other field open.
    pub fn open(dest: Dest, device: Device) -> Self {
        Self {
            dest,
            gateway: None,
            source: None,
            device,
            scope: None,
            metric: None,
            onlink: Onlink::Off,
            mtu: None,
            protocol: None,
            table: RouteTable::MAIN,
        }
    }
}

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

    /// Returns the scope of a route that is requested without one.
    #[must_use]
    pub fn default_scope(&self) -> Scope {
        match (self.dest, self.gateway) {
            (IpNet::V4(_), None) => Scope::LINK,
            _ => Scope::UNIVERSE,
        }
    }

    /// Returns the metric of a route that is requested without one.
    #[must_use]
    pub fn default_metric(&self) -> u32 {
        match self.dest {
            IpNet::V4(_) => 0,
            IpNet::V6(_) => IPV6_METRIC,
        }
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
            onlink: self.onlink,
            mtu: self.mtu,
            protocol: self.protocol,
            table: self.table,
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
    /// Those of [`RouteFields::checked`], a scope other than 0 for IPv6, whose routes have none, and
    /// `onlink` without a gateway.
    pub fn new(request: RouteRequest) -> Result<Self, FieldError> {
        let request = request.checked()?;
        if let (IpNet::V6(_), Some(scope)) = (request.dest, request.scope)
            && scope != Scope::UNIVERSE
        {
            let invalid =
                InvalidValue::new(&scope.get(), "an IPv6 route has no scope other than 0");
            return Err(invalid.in_field("scope"));
        }
        if request.onlink == Onlink::On && request.gateway.is_none() {
            let invalid = InvalidValue::new("true", "only a route with a gateway can be onlink");
            return Err(invalid.in_field("onlink"));
        }
        Ok(Self(request))
    }

    /// The fields, with the host bits of the destination cleared.
    #[must_use]
    pub fn fields(&self) -> &RouteRequest {
        &self.0
    }

    /// The device; no other field depends on it.
    pub fn device_mut(&mut self) -> &mut LinkName {
        &mut self.0.device
    }

    /// Returns the route that the kernel creates for the request.
    #[must_use]
    pub fn resolve(&self) -> Route {
        let request = &self.0;
        // The kernel treats an IPv6 metric of 0 as none.
        let metric = request.metric.filter(|metric| *metric != 0);
        Route {
            dest: request.dest,
            gateway: request.gateway,
            source: request.source,
            device: request.device.clone(),
            scope: request.scope.unwrap_or(request.default_scope()),
            metric: metric.unwrap_or(request.default_metric()),
            onlink: request.onlink,
            mtu: request.mtu,
            protocol: request.protocol.or(Some(RouteProtocol::BOOT)),
            table: request.table,
        }
    }

    /// Returns whether `route` satisfies the request. Fields that the request leaves open match any
    /// value, except gateway and metric. The metric of a connected route is the kernel's choice.
    #[must_use]
    pub fn matches(&self, route: &Route) -> bool {
        let (dest, device) = (Destination::Net(self.0.dest), Some(self.0.device.clone()));
        let pattern = RoutePattern {
            metric: None,
            ..self.0.clone().with_dest_and_device(dest, device)
        };
        let any_metric = self.0.metric.is_none() && route.is_connected();
        pattern.matches(route)
            && self.0.gateway == route.gateway
            && (any_metric || self.resolve().metric == route.metric)
    }

    /// Returns whether the request creates `route`. Without a protocol in the request, any program
    /// can have made it.
    #[must_use]
    pub fn creates(&self, route: &Route) -> bool {
        let protocol = self.0.protocol.or(route.protocol);
        Route {
            protocol,
            ..self.resolve()
        } == *route
    }

    /// Returns whether the request can't coexist with `route`: the kernel refuses the same identity,
    /// and prefers a connected IPv6 route to one that is requested without a metric.
    #[must_use]
    pub fn replaces(&self, route: &Route) -> bool {
        let wanted = self.resolve();
        let shadowed = self.0.metric.is_none() && route.is_connected();
        let is_same_way =
            (wanted.table, wanted.dest, &wanted.device) == (route.table, route.dest, &route.device);
        wanted.identity() == route.identity() || shadowed && is_same_way
    }
}

impl Route {
    /// Table, destination and metric, which together are unique unless a route is added with
    /// `NLM_F_APPEND`.
    #[must_use]
    pub fn identity(&self) -> (RouteTable, IpNet, u32) {
        (self.table, self.dest, self.metric)
    }

    /// Returns the request for this route, with every field given.
    #[must_use]
    pub fn as_request(&self) -> RouteRequest {
        RouteFields {
            dest: self.dest,
            gateway: self.gateway,
            source: self.source,
            device: self.device.clone(),
            scope: Some(self.scope),
            metric: Some(self.metric),
            onlink: self.onlink,
            mtu: self.mtu,
            protocol: self.protocol,
            table: self.table,
        }
    }

    /// Returns the pattern with every field of this route.
    #[must_use]
    pub fn as_pattern(&self) -> RoutePattern {
        let (dest, device) = (Destination::Net(self.dest), Some(self.device.clone()));
        self.as_request().with_dest_and_device(dest, device)
    }

    /// Returns whether the kernel made the route from an address of the interface.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.protocol == Some(RouteProtocol::KERNEL) && self.gateway.is_none()
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
            && device.is_none_or(|device| *device == route.device)
            && matches_if_set(self.scope, Some(route.scope))
            && matches_if_set(self.metric, Some(route.metric))
            && (self.onlink == Onlink::Off || self.onlink == route.onlink)
            && matches_if_set(self.mtu, route.mtu)
            && matches_if_set(self.protocol, route.protocol)
            && self.table == route.table
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

impl<Dest, Device, S, Metric> RouteFields<Dest, Device, S, Metric> {
    /// Writes the words of iproute2, as far as they identify a route to an operator.
    fn display(
        &self,
        f: &mut fmt::Formatter<'_>,
        dest: impl fmt::Display,
        device: Option<&LinkName>,
    ) -> fmt::Result {
        dest.fmt(f)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(device) = device {
            write!(f, " dev {device}")?;
        }
        match self.table {
            RouteTable::MAIN => Ok(()),
            other => write!(f, " table {}", other.get()),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display(f, self.dest, Some(&self.device))
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display(f, self.dest, self.device.as_ref())
    }
}

#[cfg(test)]
mod tests;
