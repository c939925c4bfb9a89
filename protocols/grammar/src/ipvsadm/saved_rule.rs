//! A rule whose options are printed.

use std::net::IpAddr;
use std::num::NonZeroU32;

use patchbay_types::ipvs::{
    AddrPort, Checksum, Family, Forward, Netmask, NonNegativeInt, Protocol, SchedFlags, Server,
    ServerId, Service, ServiceId, Tunnel,
};

/// Completeness of saved lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveFormat {
    /// ipvsadm's bytes, which lack thresholds, a mask without persistence, the third flag of `sh`
    /// and `mh`, and a server's own port.
    Ipvsadm,
    /// Every option.
    Whole,
}

/// Formats an address and port; the protocol is that of the service, `None` for a firewall mark.
pub type EndpointText<'a> = &'a dyn Fn(Option<Protocol>, IpAddr, u16) -> String;

/// Formats an address and port as numbers.
#[must_use]
pub fn numeric(_: Option<Protocol>, address: IpAddr, port: u16) -> String {
    AddrPort(address, port).to_string()
}

/// A rule whose options are printed: a service, or a server of one.
pub(super) struct SavedRule<'a> {
    pub(super) id: ServiceId,
    pub(super) service: Option<&'a Service>,
    pub(super) server: Option<&'a Server>,
    pub(super) endpoint: EndpointText<'a>,
    pub(super) format: SaveFormat,
}

impl SavedRule<'_> {
    pub(super) fn service_endpoint(&self, wanted: Protocol) -> Option<String> {
        match self.id {
            ServiceId::Address {
                protocol,
                address,
                port,
            } if protocol == wanted => Some((self.endpoint)(Some(protocol), address, port)),
            _ => None,
        }
    }

    pub(super) fn mark(&self) -> Option<(NonZeroU32, Family)> {
        match self.id {
            ServiceId::Mark { mark, family } => Some((mark, family)),
            ServiceId::Address { .. } => None,
        }
    }

    pub(super) fn server_endpoint(&self, id: ServerId) -> String {
        (self.endpoint)(self.id.protocol(), id.address, id.port)
    }

    pub(super) fn tunnel(&self) -> Option<Tunnel> {
        match self.server?.forward {
            Forward::Tunnel(tunnel) => Some(tunnel),
            Forward::Masquerade | Forward::Local | Forward::Route => None,
        }
    }

    pub(super) fn has_checksum(&self, wanted: Checksum) -> Option<String> {
        match self.tunnel()? {
            Tunnel::Gue { checksum, .. } | Tunnel::Gre { checksum } => {
                (checksum == wanted).then(String::new)
            }
            Tunnel::Ipip => None,
        }
    }

    pub(super) fn threshold(&self, threshold: NonNegativeInt) -> Option<String> {
        let printed = self.format == SaveFormat::Whole && threshold.get() != 0;
        printed.then(|| threshold.get().to_string())
    }
}

/// Value of `-M` in a saved line.
pub(super) fn saved_netmask(rule: &SavedRule<'_>) -> Option<String> {
    let service = rule.service?;
    let printed = rule.format == SaveFormat::Whole || service.persistence.is_some();
    netmask(service.netmask).filter(|_| printed)
}

/// Value of `-b` in a saved line. The third flag of `sh` or `mh` alone is an empty value in ipvsadm's
/// bytes.
pub(super) fn saved_flags(rule: &SavedRule<'_>) -> Option<String> {
    let service = rule.service?;
    let is_set = service.flags != SchedFlags::default();
    is_set.then(|| flag_names(service, rule.format))
}

/// `--keep-port` in a saved line.
pub(super) fn saved_port(rule: &SavedRule<'_>) -> Option<String> {
    let mut server = *rule.server?;
    if server.forward == Forward::Local {
        // Printed as -g.
        server.forward = Forward::Route;
    }
    let own = server != server.at_port_of(rule.id);
    (own && rule.format == SaveFormat::Whole).then(String::new)
}

/// Formats the mask, or returns `None` if it covers the whole address.
#[must_use]
pub fn netmask(mask: Netmask) -> Option<String> {
    match mask {
        _ if mask == Netmask::whole(mask.family()) => None,
        Netmask::V4(bits) => Some(std::net::Ipv4Addr::from(bits).to_string()),
        Netmask::V6(bits) => Some(bits.to_string()),
    }
}

/// Returns the names of the flags that are set, separated by commas.
#[must_use]
pub fn flag_names(service: &Service, format: SaveFormat) -> String {
    let known = SchedFlags::names(&service.scheduler);
    let rest = match format {
        SaveFormat::Ipvsadm => &[],
        SaveFormat::Whole => &SchedFlags::NUMBERED[known.len()..],
    };
    let names = known.iter().chain(rest).enumerate();
    let set = names.filter(|(bit, _)| service.flags.bits() >> bit & 1 == 1);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}
