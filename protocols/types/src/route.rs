//! Routes: as asked for, as the kernel has them, and patterns of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{FieldError, IfName, InvalidValue, Scope};

/// Most routes of one request or answer: at their largest, 86 bytes each, they fit ttrpc's 4 MiB.
pub const MAX_ROUTES: usize = 32_768;

/// Metric of an IPv6 route for which none is given (`IP6_RT_PRIO_USER`, `linux/ipv6_route.h`).
const IPV6_METRIC: u32 = 1024;

/// Where a route leads, by which router, and from which address of our own: all of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Way(Family);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    V4(Ipv4Net, Option<Ipv4Addr>, Option<Ipv4Addr>),
    V6(Ipv6Net, Option<Ipv6Addr>, Option<Ipv6Addr>),
}

impl Way {
    /// Joins the parts; host bits of the destination are dropped, as the kernel has none.
    ///
    /// # Errors
    /// A gateway or a source that is no unicast address, or not of the destination's family.
    pub fn new(
        dest: IpNet,
        gateway: Option<IpAddr>,
        source: Option<IpAddr>,
    ) -> Result<Self, FieldError> {
        let v4 = |field: &'static str, ip: Option<IpAddr>| match unicast(field, ip)? {
            Some(IpAddr::V6(v6)) => Err(other_family(&v6, "an IPv4").in_field(field)),
            Some(IpAddr::V4(v4)) => Ok(Some(v4)),
            None => Ok(None),
        };
        let v6 = |field: &'static str, ip: Option<IpAddr>| match unicast(field, ip)? {
            Some(IpAddr::V4(v4)) => Err(other_family(&v4, "an IPv6").in_field(field)),
            Some(IpAddr::V6(v6)) => Ok(Some(v6)),
            None => Ok(None),
        };
        Ok(Self(match dest {
            IpNet::V4(net) => {
                Family::V4(net.trunc(), v4("gateway", gateway)?, v4("source", source)?)
            }
            IpNet::V6(net) => {
                Family::V6(net.trunc(), v6("gateway", gateway)?, v6("source", source)?)
            }
        }))
    }

    /// The destination, without host bits.
    #[must_use]
    pub fn dest(&self) -> IpNet {
        match self.0 {
            Family::V4(dest, ..) => dest.into(),
            Family::V6(dest, ..) => dest.into(),
        }
    }

    /// The router; `None`: the destination is on the link.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        match self.0 {
            Family::V4(_, gateway, _) => gateway.map(Into::into),
            Family::V6(_, gateway, _) => gateway.map(Into::into),
        }
    }

    /// The address of our own that is preferred; `None`: the kernel chooses.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        match self.0 {
            Family::V4(_, _, source) => source.map(Into::into),
            Family::V6(_, _, source) => source.map(Into::into),
        }
    }
}

fn unicast(field: &'static str, ip: Option<IpAddr>) -> Result<Option<IpAddr>, FieldError> {
    match ip {
        Some(ip) if ip.is_unspecified() || ip.is_multicast() => {
            let rule = "a route needs a unicast address here";
            Err(InvalidValue::new(&ip.to_string(), rule).in_field(field))
        }
        legal => Ok(legal),
    }
}

fn other_family(ip: &impl fmt::Display, of: &str) -> InvalidValue {
    let rule = format!("the destination is {of} network, and the families must agree");
    InvalidValue::new(&ip.to_string(), rule)
}

/// A route that is asked for, each part checked but not yet against the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFields {
    /// Where it leads; host bits are allowed and dropped.
    pub dest: IpNet,
    /// The router.
    pub gateway: Option<IpAddr>,
    /// The preferred address of our own.
    pub source: Option<IpAddr>,
    /// The interface of the guest.
    pub device: IfName,
    /// `None`: universe through a gateway, else link.
    pub scope: Option<Scope>,
    /// `None`: the kernel's default.
    pub metric: Option<u32>,
}

/// A route that is asked for, its parts in accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    way: Way,
    device: IfName,
    scope: Option<Scope>,
    metric: Option<u32>,
}

impl RouteSpec {
    /// Checks the parts against each other.
    ///
    /// # Errors
    /// Those of [`Way::new`], and a scope for IPv6, whose routes have none.
    pub fn new(parts: RouteFields) -> Result<Self, FieldError> {
        let RouteFields {
            dest,
            gateway,
            source,
            device,
            scope,
            metric,
        } = parts;
        let way = Way::new(dest, gateway, source)?;
        if let Some(scope) = scope.filter(|s| *s != Scope::UNIVERSE && dest.addr().is_ipv6()) {
            let bad = InvalidValue::new(
                &scope.get().to_string(),
                "routes of IPv6 have no scope but 0",
            );
            return Err(bad.in_field("scope"));
        }
        Ok(Self {
            way,
            device,
            scope,
            metric,
        })
    }

    /// Where it leads.
    #[must_use]
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// The interface.
    #[must_use]
    pub fn device(&self) -> &IfName {
        &self.device
    }

    /// The scope that was asked for.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        self.scope
    }

    /// The metric that was asked for.
    #[must_use]
    pub fn metric(&self) -> Option<u32> {
        self.metric
    }

    /// The route that the kernel makes of it.
    #[must_use]
    pub fn resolve(&self) -> Route {
        let v6 = self.way.dest().addr().is_ipv6();
        let by_gateway = match self.way.gateway() {
            None if !v6 => Scope::LINK,
            _ => Scope::UNIVERSE,
        };
        let metric = self.metric.unwrap_or(0);
        Route {
            way: self.way,
            device: self.device.to_string(),
            scope: self.scope.unwrap_or(by_gateway).get(),
            // The kernel takes an IPv6 metric of 0 for none given.
            metric: if v6 && metric == 0 {
                IPV6_METRIC
            } else {
                metric
            },
        }
    }

    /// Whether a route is what was asked for: what was not said may be anything, but for the
    /// metric, which is part of a route's identity.
    #[must_use]
    pub fn agrees(&self, route: &Route) -> bool {
        let asked = self.resolve();
        asked.identity() == route.identity()
            && self.device.as_str() == route.device
            && self.way.gateway() == route.way.gateway()
            && said(self.way.source().as_ref(), route.way.source().as_ref())
            && self.scope.is_none_or(|scope| scope.get() == route.scope)
    }
}

fn said<T: PartialEq>(asked: Option<&T>, found: Option<&T>) -> bool {
    asked.is_none() || asked == found
}

/// A unicast route of the main table, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// Where it leads.
    pub way: Way,
    /// The kernel's name for the interface: at most 15 bytes, but of any characters.
    pub device: String,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// The kernel's order among routes to one destination, the least first.
    pub metric: u32,
}

impl Route {
    /// What no two routes of a table share, unless somebody insists.
    #[must_use]
    pub fn identity(&self) -> (IpNet, u32) {
        (self.way.dest(), self.metric)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.way.dest().fmt(f)?;
        if let Some(gateway) = self.way.gateway() {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}", self.device)
    }
}

/// Where the routes of a pattern lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Everywhere, in either family.
    Default,
    /// To this network.
    Net(IpNet),
}

/// Some routes, by what is known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePattern {
    /// Where they lead.
    pub dest: Destination,
    /// Their router; `None`: any, or none.
    pub gateway: Option<IpAddr>,
    /// Their preferred address; `None`: any.
    pub source: Option<IpAddr>,
    /// Their interface; `None`: any.
    pub device: Option<IfName>,
    /// Their scope; `None`: any.
    pub scope: Option<Scope>,
    /// Their metric; `None`: any.
    pub metric: Option<u32>,
}

impl RoutePattern {
    /// Whether a route agrees with everything that the pattern says.
    #[must_use]
    pub fn matches(&self, route: &Route) -> bool {
        let dest = route.way.dest();
        let to = match self.dest {
            Destination::Default => dest.prefix_len() == 0,
            Destination::Net(net) => dest == net.trunc(),
        };
        to && said(self.gateway.as_ref(), route.way.gateway().as_ref())
            && said(self.source.as_ref(), route.way.source().as_ref())
            && self
                .device
                .as_ref()
                .is_none_or(|device| device.as_str() == route.device)
            && self.scope.is_none_or(|scope| scope.get() == route.scope)
            && self.metric.is_none_or(|metric| metric == route.metric)
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dest {
            Destination::Default => write!(f, "default")?,
            Destination::Net(net) => net.trunc().fmt(f)?,
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        match &self.device {
            Some(device) => write!(f, " dev {device}"),
            None => Ok(()),
        }
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
        RouteSpec::new(RouteFields {
            dest: dest.parse().unwrap(),
            gateway: gateway.map(|ip| ip.parse().unwrap()),
            source: None,
            device: "eth1".parse().unwrap(),
            scope: scope.map(|number| Scope::try_from(number).unwrap()),
            metric: None,
        })
    }

    #[test]
    fn what_is_not_said_is_the_kernels_choice() {
        let on_link = spec("172.17.10.10/24", None, None).unwrap().resolve();
        assert_eq!(on_link.to_string(), "172.17.10.0/24 dev eth1");
        assert_eq!((on_link.scope, on_link.metric), (253, 0));
        let routed = spec("10.0.0.0/8", Some("10.0.0.1"), None)
            .unwrap()
            .resolve();
        assert_eq!((routed.scope, routed.metric), (0, 0));
        let v6 = spec("fd01::/64", None, Some(0)).unwrap().resolve();
        assert_eq!((v6.scope, v6.metric), (0, 1024));
    }

    #[test]
    fn each_discord_names_its_field() {
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
    fn a_pattern_goes_by_what_it_says() {
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
