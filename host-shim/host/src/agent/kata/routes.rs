//! Routes by Kata's agent.

use std::net::IpAddr;

use ipnet::IpNet;
use patchbay_types::failure::Failure;
use patchbay_types::{
    Interface, InvalidValue, LinkName, Onlink, Route, RouteFields, RouteProtocol, RouteSpec,
    RouteTable, Scope,
};
use patchbay_wire::proto::kata as wire;
use protobuf::MessageField;

use super::super::{Effect, REPLY_TIMEOUT, protocol_error};
use super::{KataAgent, contradiction, convert};

/// Route of the guest's main table, as the agent lists it: without its destination if it has a gateway.
#[derive(Debug)]
pub(super) struct Listed {
    device: LinkName,
    gateway: Option<IpAddr>,
    dest: IpNet,
    scope: Scope,
}

impl Listed {
    fn new(route: &wire::Route) -> Result<Option<Self>, InvalidValue> {
        // A route of another type, such as blackhole, has no device.
        if route.device.is_empty() {
            return Ok(None);
        }
        let gateway = route.gateway.parse().ok();
        let dest = convert::destination(&route.dest, gateway);
        let read = dest.zip(convert::scope(route.scope));
        let (dest, scope) =
            read.ok_or_else(|| InvalidValue::new(&route.dest, "a route has a destination"))?;
        Ok(Some(Self {
            device: route.device.parse()?,
            gateway,
            dest,
            scope,
        }))
    }

    pub(super) fn has_gateway(&self) -> bool {
        self.gateway.is_some()
    }

    pub(super) fn device(&self) -> String {
        self.device.to_string()
    }

    /// Returns whether one of the requested routes can be this one.
    pub(super) fn is_among(&self, specs: &[RouteSpec]) -> bool {
        specs.iter().any(|spec| self.is(spec))
    }

    fn is(&self, spec: &RouteSpec) -> bool {
        let request = spec.resolve();
        let same_way = request.device == self.device && request.gateway == self.gateway;
        same_way && (self.gateway.is_some() || request.dest == self.dest)
    }

    pub(super) fn to_route(&self) -> Route {
        let open = RouteFields::open(self.dest, self.device.clone());
        Route {
            dest: open.dest,
            gateway: self.gateway,
            source: open.source,
            metric: open.default_metric(),
            device: open.device,
            scope: self.scope,
            onlink: open.onlink,
            mtu: open.mtu,
            protocol: open.protocol,
            table: open.table,
        }
    }
}

impl KataAgent {
    pub(super) fn list_routes(&self) -> Result<Vec<Listed>, Failure> {
        let request = wire::ListRoutesRequest::default();
        let call = |context| self.client.list_routes(context, &request);
        let reply = self.call(Effect::Reads, REPLY_TIMEOUT, call)?;
        let listed = reply.Routes.iter().map(Listed::new);
        let listed: Result<Vec<_>, _> = listed.collect();
        let listed = listed.map_err(|invalid| protocol_error(invalid.in_field("routes")))?;
        Ok(listed.into_iter().flatten().collect())
    }

    /// Lists the routes that the kernel doesn't make for addresses.
    pub(super) fn other_routes(&self, interfaces: &[Interface]) -> Result<Vec<Listed>, Failure> {
        let is_connected = |route: &Listed| {
            let on_device = interfaces.iter().filter(|found| found.name == route.device);
            let mut networks = on_device.flat_map(|found| &found.addresses);
            let is_own = |dest: IpNet| match dest {
                IpNet::V6(net) => net.addr().is_unicast_link_local() || net.addr().is_multicast(),
                IpNet::V4(_) => false,
            };
            let is_of = |network: IpNet| network.trunc() == route.dest;
            route.gateway.is_none()
                && (is_own(route.dest)
                    || networks.any(|listed| {
                        let (ip, prefix) = (listed.address.ip(), listed.address.prefix());
                        IpNet::new(ip, prefix).is_ok_and(is_of) || IpNet::from(ip) == route.dest
                    }))
        };
        let mut routes = self.list_routes()?;
        routes.retain(|route| !is_connected(route));
        Ok(routes)
    }

    /// Encodes routes.
    ///
    /// # Errors
    /// [`patchbay_types::failure::Kind::Unsupported`] for a field that the agent doesn't have.
    pub(super) fn routes_request(
        &self,
        specs: &[RouteSpec],
    ) -> Result<wire::UpdateRoutesRequest, Failure> {
        for spec in specs {
            if let Some(missing) = self.unsupported(spec) {
                return Err(self.lacks(&format!("'{missing}' of routes")));
            }
        }
        Ok(wire::UpdateRoutesRequest {
            routes: MessageField::some(wire::Routes {
                Routes: specs.iter().map(convert::route).collect(),
                ..wire::Routes::default()
            }),
            ..wire::UpdateRoutesRequest::default()
        })
    }

    fn unsupported(&self, spec: &RouteSpec) -> Option<&'static str> {
        let request = spec.resolve();
        let has_flags = self.version.updates == super::Updates::Add;
        match () {
            () if request.table != RouteTable::MAIN => Some("table"),
            () if request.metric != request.default_metric() => Some("metric"),
            () if request
                .protocol
                .is_some_and(|other| other != RouteProtocol::BOOT) =>
            {
                Some("protocol")
            }
            () if request.onlink == Onlink::On && !has_flags => Some("onlink"),
            () if request.mtu.is_some() && !self.version.has_route_mtu => Some("mtu"),
            () => None,
        }
    }

    /// Checks that the guest has these routes, as far as the agent reports them.
    pub(super) fn check_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        let listed = self.list_routes()?;
        // It omits those without destination and gateway.
        let is_reported = |spec: &&RouteSpec| {
            let route = spec.resolve();
            route.gateway.is_some() || route.dest.prefix_len() > 0
        };
        let missing = specs
            .iter()
            .filter(is_reported)
            .find(|spec| !listed.iter().any(|route| route.is(spec)));
        match missing {
            Some(spec) => Err(contradiction(format!(
                "the guest lacks the route {}",
                spec.resolve()
            ))),
            None => Ok(()),
        }
    }
}
