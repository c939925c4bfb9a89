//! Requests from domain types.

use std::net::IpAddr;

use patchbay_types::ipvs::{
    Change, Daemon, McastGroup, Netmask, Persistence, Role, Scheduling, Server, Service, ServiceId,
    Timeouts,
};

use super::consts::{
    CMD_DEL_DAEMON, CMD_DEL_DEST, CMD_DEL_SERVICE, CMD_FLUSH, CMD_NEW_DAEMON, CMD_NEW_DEST,
    CMD_NEW_SERVICE, CMD_SET_CONFIG, CMD_SET_DEST, CMD_SET_SERVICE, CMD_ZERO, SVC_ONEPACKET,
    SVC_PERSISTENT, SVC_SCHED_SHIFT, daemon, svc, top,
};
use super::dest;
use crate::inet::{af, put_ip_union};
use patchbay_netlink::genl::FamilyId;
use patchbay_netlink::{Batch, Body, Generic, IntAttr};

/// Appends the request for a change to a batch.
pub(super) fn change(id: FamilyId, batch: &mut Batch<Generic>, change: &Change) {
    match change {
        Change::AddService(new) => id.push(batch, CMD_NEW_SERVICE, |body| service(body, new)),
        Change::EditService(new) => id.push(batch, CMD_SET_SERVICE, |body| service(body, new)),
        Change::DeleteService(old) => id.push(batch, CMD_DEL_SERVICE, |body| identify(body, *old)),
        Change::Clear => id.push(batch, CMD_FLUSH, |_| {}),
        Change::AddServer(of, new) => id.push(batch, CMD_NEW_DEST, |body| server(body, *of, new)),
        Change::EditServer(of, new) => id.push(batch, CMD_SET_DEST, |body| server(body, *of, new)),
        Change::DeleteServer(of, old) => id.push(batch, CMD_DEL_DEST, |body| {
            identify(body, *of);
            body.nest(top::DEST, |nest| dest::encode_id(nest, *old));
        }),
        Change::Zero(None) => id.push(batch, CMD_ZERO, |_| {}),
        Change::Zero(Some(one)) => id.push(batch, CMD_ZERO, |body| identify(body, *one)),
        Change::SetTimeouts(new) => id.push(batch, CMD_SET_CONFIG, |body| timeouts(body, *new)),
        Change::StartDaemon(new) => id.push(batch, CMD_NEW_DAEMON, |body| daemon(body, new)),
        Change::StopDaemon(role) => id.push(batch, CMD_DEL_DAEMON, |body| {
            body.nest(top::DAEMON, |nest| state(nest, *role));
        }),
    }
}

/// Appends the nest that identifies a service.
pub(super) fn identify(body: &mut Body<'_>, id: ServiceId) {
    body.nest(top::SERVICE, |nest| service_id(nest, id));
}

fn service_id(nest: &mut Body<'_>, id: ServiceId) {
    let family = IntAttr::u16(svc::AF, af(id.family()).into());
    match id {
        ServiceId::Address {
            protocol,
            address: ip,
            port,
        } => {
            let protocol = IntAttr::u16(svc::PROTOCOL, protocol.number().into());
            nest.ints([family, protocol]);
            put_ip_union(nest, svc::ADDR, ip);
            nest.ints([IntAttr::be16(svc::PORT, port)]);
        }
        // The kernel ignores the address of a service with a mark.
        ServiceId::Mark { mark, .. } => {
            nest.ints([family, IntAttr::u32(svc::FWMARK, mark.get())]);
        }
    }
}

fn service(body: &mut Body<'_>, service: &Service) {
    let mut flags = u32::from(service.flags.bits()) << SVC_SCHED_SHIFT;
    if service.persistence.is_some() {
        flags |= SVC_PERSISTENT;
    }
    if service.scheduling == Scheduling::Packets {
        flags |= SVC_ONEPACKET;
    }
    body.nest(top::SERVICE, |nest| {
        service_id(nest, service.id);
        nest.str_z(svc::SCHED_NAME, service.scheduler.as_str());
        if let Some(engine) = &service.engine {
            nest.str_z(svc::PE_NAME, engine.as_str());
        }
        // struct ip_vs_flags: the flags u32 and a mask u32.
        let mut flags_and_mask = [u8::MAX; 8];
        flags_and_mask[..4].copy_from_slice(&flags.to_ne_bytes());
        nest.bytes(svc::FLAGS, flags_and_mask);
        nest.u32(
            svc::TIMEOUT,
            service.persistence.map_or(0, Persistence::get),
        );
        match service.netmask {
            Netmask::V4(bits) => nest.bytes(svc::NETMASK, bits.to_be_bytes()),
            Netmask::V6(bits) => nest.u32(svc::NETMASK, bits.into()),
        }
    });
}

fn server(body: &mut Body<'_>, of: ServiceId, server: &Server) {
    identify(body, of);
    dest::encode(body, server);
}

fn timeouts(body: &mut Body<'_>, timeouts: Timeouts) {
    let kinds = [top::TIMEOUT_TCP, top::TIMEOUT_TCP_FIN, top::TIMEOUT_UDP];
    for (kind, seconds) in kinds.into_iter().zip(timeouts.seconds()) {
        body.u32(kind, seconds);
    }
}

fn state(nest: &mut Body<'_>, role: Role) {
    nest.u32(daemon::STATE, role as u32);
}

fn daemon(body: &mut Body<'_>, daemon: &Daemon) {
    body.nest(top::DAEMON, |nest| {
        state(nest, daemon.role);
        nest.str_z(daemon::MCAST_IFN, daemon.link.as_str());
        nest.u32(daemon::SYNC_ID, daemon.sync_id.into());
        if let Some(length) = daemon.max_len {
            nest.u16(daemon::SYNC_MAXLEN, length.get());
        }
        match daemon.group.map(McastGroup::get) {
            Some(IpAddr::V4(v4)) => nest.bytes(daemon::MCAST_GROUP, v4.octets()),
            Some(IpAddr::V6(v6)) => nest.bytes(daemon::MCAST_GROUP6, v6.octets()),
            None => {}
        }
        if let Some(port) = daemon.port {
            nest.u16(daemon::MCAST_PORT, port.get());
        }
        if let Some(ttl) = daemon.ttl {
            nest.u8(daemon::MCAST_TTL, ttl.get());
        }
    });
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
