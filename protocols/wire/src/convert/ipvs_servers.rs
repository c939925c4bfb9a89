//! Requests about the connections of IPVS servers.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use patchbay_types::ipvs::{
    ConnectionCount, DrainProgress, Peer, Protocol, ServerFilter, ServiceFilter, Target,
};
use patchbay_types::{FieldError, InvalidValue};

use super::ipvs::{peer, peer_to_wire};
use crate::proto::ipvs as wire;

/// Maximum number of filters of a request.
pub const MAX_FILTERS: usize = 64;

fn target_to_wire(target: Target) -> wire::Peer {
    peer_to_wire(Peer {
        address: target.address,
        port: target.port.map_or(0, NonZeroU16::get),
    })
}

fn target(wire: Option<&wire::Peer>, field: &str) -> Result<Target, FieldError> {
    let Peer { address, port } = peer(wire, field)?;
    let port = NonZeroU16::new(port);
    Ok(Target { address, port })
}

impl From<&ServiceFilter> for wire::ServiceFilter {
    fn from(filter: &ServiceFilter) -> Self {
        match filter {
            ServiceFilter::Mark(mark) => Self {
                mark: mark.get(),
                ..Self::default()
            },
            ServiceFilter::Address(protocol, target) => Self {
                address: Some(target_to_wire(*target)).into(),
                protocol: protocol.map_or(0, |protocol| protocol.number().into()),
                ..Self::default()
            },
        }
    }
}

impl TryFrom<&wire::ServiceFilter> for ServiceFilter {
    type Error = FieldError;

    fn try_from(wire: &wire::ServiceFilter) -> Result<Self, FieldError> {
        if let Some(mark) = NonZeroU32::new(wire.mark) {
            return Ok(Self::Mark(mark));
        }
        let protocol = (wire.protocol != 0).then(|| Protocol::try_from(wire.protocol));
        let protocol = protocol
            .transpose()
            .map_err(|bad| bad.in_field("service"))?;
        Ok(Self::Address(
            protocol,
            target(wire.address.as_ref(), "service")?,
        ))
    }
}

fn filter_to_wire(filter: &ServerFilter) -> wire::ServerFilter {
    wire::ServerFilter {
        server: Some(target_to_wire(filter.server)).into(),
        service: filter.service.as_ref().map(Into::into).into(),
        ..wire::ServerFilter::default()
    }
}

fn filters(wire: &[wire::ServerFilter]) -> Result<Vec<ServerFilter>, FieldError> {
    if wire.len() > MAX_FILTERS {
        let rule = format!("a request has at most {MAX_FILTERS} servers");
        return Err(InvalidValue::new(&wire.len(), rule).in_field("servers"));
    }
    let filter = |wire: &wire::ServerFilter| {
        Ok(ServerFilter {
            server: target(wire.server.as_ref(), "server")?,
            service: wire.service.as_ref().map(TryFrom::try_from).transpose()?,
        })
    };
    wire.iter().map(filter).collect()
}

/// Builds the request that counts connections.
#[must_use]
pub fn count_request(servers: &[ServerFilter]) -> wire::CountConnectionsRequest {
    wire::CountConnectionsRequest {
        servers: servers.iter().map(filter_to_wire).collect(),
        ..wire::CountConnectionsRequest::default()
    }
}

/// Decodes the request that counts connections.
///
/// # Errors
/// An invalid or excessive filter.
pub fn counted(wire: &wire::CountConnectionsRequest) -> Result<Vec<ServerFilter>, FieldError> {
    filters(&wire.servers)
}

impl From<ConnectionCount> for wire::CountConnectionsReply {
    fn from(count: ConnectionCount) -> Self {
        Self {
            connections: count.connections,
            partial: count.partial,
            ending: count.ending,
            ..Self::default()
        }
    }
}

impl From<&wire::CountConnectionsReply> for ConnectionCount {
    fn from(wire: &wire::CountConnectionsReply) -> Self {
        Self {
            connections: wire.connections,
            partial: wire.partial,
            ending: wire.ending,
        }
    }
}

/// Builds the request that ends connections, after a drain of at most this time if there is one.
#[must_use]
pub fn end_request(
    servers: &[ServerFilter],
    drain: Option<Duration>,
) -> wire::EndConnectionsRequest {
    let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    wire::EndConnectionsRequest {
        servers: servers.iter().map(filter_to_wire).collect(),
        drain: drain.is_some(),
        drain_ms: drain.map_or(0, millis),
        ..wire::EndConnectionsRequest::default()
    }
}

/// Decodes the request that ends connections.
///
/// # Errors
/// An invalid or excessive filter.
pub fn ended(
    wire: &wire::EndConnectionsRequest,
) -> Result<(Vec<ServerFilter>, Option<Duration>), FieldError> {
    let drain = Duration::from_millis(wire.drain_ms.into());
    Ok((filters(&wire.servers)?, wire.drain.then_some(drain)))
}

impl From<DrainProgress> for wire::EndConnectionsChunk {
    fn from(progress: DrainProgress) -> Self {
        Self {
            active: progress.active,
            inactive: progress.inactive,
            ..Self::default()
        }
    }
}

impl From<&wire::EndConnectionsChunk> for DrainProgress {
    fn from(wire: &wire::EndConnectionsChunk) -> Self {
        Self {
            active: wire.active,
            inactive: wire.inactive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_request_round_trips() {
        let filter = |server: &str, service: Option<&str>| ServerFilter {
            server: server.parse().unwrap(),
            service: service.map(|text| text.parse().unwrap()),
        };
        let servers = [
            filter("10.2.0.1", None),
            filter("[fd00::1]:80", Some("udp:[fd00::2]:53")),
            filter("10.2.0.1:80", Some("10.0.0.1")),
            filter("10.2.0.1:80", Some("fwmark:4294967295")),
        ];
        for drain in [None, Some(Duration::ZERO), Some(Duration::from_secs(7))] {
            let wire = end_request(&servers, drain);
            assert_eq!(ended(&wire), Ok((servers.to_vec(), drain)));
        }
        assert_eq!(counted(&count_request(&servers)), Ok(servers.to_vec()));
    }

    #[test]
    fn invalid_filter_names_its_field() {
        let mut request = count_request(&[]);
        request.servers = vec![wire::ServerFilter::default()];
        assert_eq!(counted(&request).unwrap_err().field(), "server");
        request.servers = vec![wire::ServerFilter::default(); MAX_FILTERS + 1];
        assert_eq!(counted(&request).unwrap_err().field(), "servers");
    }
}
