//! Settings of the guest that servers of IPVS with NAT need, for `examine`.

use std::net::IpAddr;

use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{Detail, Forward, Sysctl, SysctlValue};

use super::requirement::Requirement;
use crate::agent::GuestAgent;

const IP_FORWARD: Requirement = Requirement {
    part: "IPv4 forwarding",
    impact: "clients get no answers from the guest's IPVS servers with NAT (-m): \
             'patchbay sysctl set ID net.ipv4.ip_forward 1'",
};
const IP6_FORWARD: Requirement = Requirement {
    part: "IPv6 forwarding",
    impact: "clients get no answers from the guest's IPv6 servers of IPVS with NAT (-m): \
             'patchbay sysctl set ID net.ipv6.conf.all.forwarding 1'",
};
const IPVS_CONNTRACK: Requirement = Requirement {
    part: "conntrack of IPVS",
    impact: "'cleanup', 'conntrack' and firewall rules by connection state don't apply to what IPVS \
             forwards: 'patchbay sysctl set ID conntrack 1'",
};

/// Returns the requirements of the guest's servers with NAT that are not met; none without such
/// servers, and none if the agent can't read the settings without loading IPVS.
pub(super) fn missing(agent: &dyn GuestAgent) -> Result<Vec<Requirement>, Failure> {
    let Ok(agent) = agent.patchbay() else {
        return Ok(Vec::new());
    };
    let readings = agent.loaded_settings()?.unwrap_or_default().readings;
    let is_off = |sysctl: Sysctl| {
        let mut of_it = readings.iter().filter(|reading| reading.sysctl == sysctl);
        of_it.any(|reading| reading.value == SysctlValue::One(0))
    };
    let checks = [
        (Sysctl::IP_FORWARD, IP_FORWARD),
        (Sysctl::IP6_FORWARD, IP6_FORWARD),
        (Sysctl::IPVS_CONNTRACK, IPVS_CONNTRACK),
    ];
    let has_ipvs = readings.iter().any(|reading| reading.sysctl.is_ipvs());
    if !has_ipvs || !checks.iter().any(|(sysctl, _)| is_off(*sysctl)) {
        return Ok(Vec::new());
    }
    let table = agent.ipvs_table(None, Detail::Brief)?;
    let servers = table.iter().flat_map(|service| &service.servers);
    let nat: Vec<IpAddr> = servers
        .filter(|listed| listed.server.forward == Forward::Masquerade)
        .map(|listed| listed.server.id.address)
        .collect();
    let concerns = |sysctl| match sysctl {
        Sysctl::IP_FORWARD => nat.iter().any(IpAddr::is_ipv4),
        Sysctl::IP6_FORWARD => nat.iter().any(IpAddr::is_ipv6),
        _ => !nat.is_empty(),
    };
    let unmet = checks.into_iter();
    let unmet = unmet.filter(|(sysctl, _)| is_off(*sysctl) && concerns(*sysctl));
    Ok(unmet.map(|(_, requirement)| requirement).collect())
}
