//! JSON output of IPVS. Counters are never shortened.

use patchbay_grammar::ipvsadm::{SaveFormat, flag_names, netmask};
use patchbay_types::ipvs::{
    AddrPort, Checksum, Connection, Daemon, Engine, Family, Forward, ListedServer, ListedService,
    McastGroup, Peer, Persistence, Scheduling, ServiceId, Stats, Status, SyncLen, Tunnel,
};
use serde_json::{Value, json};

fn stats(stats: Stats) -> Value {
    let five = |[conns, inpkts, outpkts, inbytes, outbytes]: [u64; 5]| {
        json!({
            "connections": conns, "inPackets": inpkts, "outPackets": outpkts,
            "inBytes": inbytes, "outBytes": outbytes,
        })
    };
    json!({ "total": five(stats.counters), "perSecond": five(stats.rates) })
}

fn forward(forward: Forward) -> Value {
    let checksum = |checksum| match checksum {
        Checksum::No => "none",
        Checksum::Full => "full",
        Checksum::Remote => "remote",
    };
    match forward {
        Forward::Masquerade => json!({ "method": "masquerade" }),
        Forward::Local => json!({ "method": "local" }),
        Forward::Route => json!({ "method": "route" }),
        Forward::Tunnel(Tunnel::Ipip) => json!({ "method": "tunnel", "type": "ipip" }),
        Forward::Tunnel(Tunnel::Gue {
            port,
            checksum: sum,
        }) => json!({
            "method": "tunnel", "type": "gue", "port": port, "checksum": checksum(sum),
        }),
        Forward::Tunnel(Tunnel::Gre { checksum: sum }) => json!({
            "method": "tunnel", "type": "gre", "checksum": checksum(sum),
        }),
    }
}

fn server(listed: &ListedServer) -> Value {
    let server = &listed.server;
    json!({
        "address": server.id.address, "port": server.id.port,
        "forward": forward(server.forward), "weight": server.weight.get(),
        "upperThreshold": server.upper.get(), "lowerThreshold": server.lower.get(),
        "active": listed.active, "inactive": listed.inactive, "persistent": listed.persistent,
        "stats": stats(listed.stats),
    })
}

fn service(listed: &ListedService) -> Value {
    let service = &listed.service;
    let id = match service.id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => json!({
            "protocol": protocol.name(), "address": address, "port": port,
        }),
        ServiceId::Mark { mark, family } => json!({
            "mark": mark, "ipv6": family == Family::V6,
        }),
    };
    let flags = flag_names(service, SaveFormat::Whole);
    json!({
        "service": id, "scheduler": service.scheduler.as_str(),
        "flags": flags.split(',').filter(|flag| !flag.is_empty()).collect::<Vec<_>>(),
        "persistence": service.persistence.map(Persistence::get),
        "netmask": netmask(service.netmask),
        "engine": service.engine.as_ref().map(Engine::as_str),
        "onePacket": service.scheduling == Scheduling::Packets,
        "stats": stats(listed.stats),
        "servers": listed.servers.iter().map(server).collect::<Vec<_>>(),
    })
}

/// Formats services with their servers.
pub(crate) fn table(table: &[ListedService]) -> Value {
    table.iter().map(service).collect()
}

fn daemon(daemon: &Daemon) -> Value {
    json!({
        "role": daemon.role.name(),
        "link": daemon.link.as_str(), "syncId": daemon.sync_id,
        "maxLen": daemon.max_len.map(SyncLen::get),
        "group": daemon.group.map(McastGroup::get),
        "port": daemon.port, "ttl": daemon.ttl,
    })
}

/// Formats the version, timeouts and sync daemons.
pub(crate) fn status(status: &Status) -> Value {
    let [_, major, minor, patch] = status.version.to_be_bytes();
    let [tcp, tcp_fin, udp] = status.timeouts.seconds();
    json!({
        "version": format!("{major}.{minor}.{patch}"), "tableSize": status.table_size,
        "timeouts": { "tcp": tcp, "tcpFin": tcp_fin, "udp": udp },
        "daemons": status.daemons.iter().map(daemon).collect::<Vec<_>>(),
    })
}

/// Formats the connection table.
pub(crate) fn connections(rows: &[Connection]) -> Value {
    let peer = |peer: Peer| AddrPort(peer.address, peer.port).to_string();
    let row = |row: &Connection| {
        let engine = row.engine.as_ref();
        json!({
            "protocol": row.protocol, "client": peer(row.client),
            "virtual": peer(row.virtual_end), "server": peer(row.server),
            "state": row.state, "expires": row.expires,
            "engine": engine.map(|(name, _)| name), "engineData": engine.map(|(_, data)| data),
        })
    };
    rows.iter().map(row).collect()
}
