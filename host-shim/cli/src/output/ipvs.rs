//! Text output of ipvsadm 1.31, byte for byte.

use std::fmt::Write as _;
use std::net::IpAddr;

use patchbay_grammar::ipvsadm::{
    CounterFormat, EndpointText, Format, Names, SaveFormat, SortOrder, TableView, flag_names,
    netmask, server_line, service_line,
};
use patchbay_types::ipvs::{
    Checksum, Connection, Daemon, Forward, ListedServer, ListedService, Peer, Persistence,
    Protocol, SchedFlags, Scheduling, Service, ServiceId, Status, Timeouts, Tunnel,
};

use crate::name_service::HostsAndServices;

/// Widths in characters to which ipvsadm cuts IPv4 services and servers.
const SERVICE_WIDTH: usize = 33;
const SERVER_WIDTH: usize = 28;

/// Sorts services and servers by number. ipvsadm's comparison overflows.
pub(crate) fn sort(table: &mut [ListedService]) {
    table.sort_by_key(|listed| listed.service.id);
    for listed in table {
        listed.servers.sort_by_key(|listed| listed.server.id);
    }
}

/// Formats `-L`.
pub(crate) fn table(
    view: &TableView,
    header: Option<&Status>,
    mut table: Vec<ListedService>,
    files: &HostsAndServices,
) -> String {
    if view.order == SortOrder::Sorted {
        sort(&mut table);
    }
    let mut text = String::new();
    if let Some(status) = header {
        let [_, major, minor, patch] = status.version.to_be_bytes();
        let size = status.table_size;
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "IP Virtual Server version {major}.{minor}.{patch} (size={size})"
        );
    }
    text += &titles(view.format);
    let show = |protocol, ip, port| files.show(view.names, protocol, ip, port);
    for listed in &table {
        let protocol = listed.service.id.protocol();
        text += &service_row(view, listed, &show);
        text.push('\n');
        for server in &listed.servers {
            text += &server_row(view, protocol, server, &show);
            text.push('\n');
        }
    }
    text
}

fn titles(format: Format) -> String {
    let (local, remote) = ("Prot LocalAddress:Port", "  -> RemoteAddress:Port");
    let five = |[a, b, c, d, e]: [&str; 5]| {
        format!("{local:<33} {a:>8} {b:>8} {c:>8} {d:>8} {e:>8}\n{remote}\n")
    };
    match format {
        Format::Rules => format!(
            "{local} Scheduler Flags\n{remote}           Forward Weight ActiveConn InActConn\n"
        ),
        Format::Tunnels => format!(
            "{local} Scheduler Flags\n{remote}           Forward TunnelInfo    Weight ActiveConn InActConn\n"
        ),
        Format::Stats => five(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]),
        Format::Rates => five(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]),
        Format::Thresholds => format!(
            "{local:<33} {:<10} {:<10} {:<10} {:<10}\n{remote}\n",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        ),
        Format::Persistence => format!(
            "{local:<33} {:<9} {:<11} {:<10} {:<10}\n{remote}\n",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        ),
    }
}

/// Cuts IPv4 text; IPv6 text is never cut.
fn cut(text: String, ip: IpAddr, width: usize) -> String {
    match ip {
        IpAddr::V4(_) => text.chars().take(width).collect(),
        IpAddr::V6(_) => text,
    }
}

pub(super) fn service_name(id: ServiceId, show: EndpointText<'_>) -> String {
    match id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => {
            let name = protocol.name().to_uppercase();
            let endpoint = cut(show(Some(protocol), address, port), address, SERVICE_WIDTH);
            format!("{name:<4} {endpoint}")
        }
        ServiceId::Mark { mark, family } => match family {
            patchbay_types::ipvs::Family::V4 => format!("FWM  {mark}"),
            patchbay_types::ipvs::Family::V6 => format!("FWM  {mark} IPv6"),
        },
    }
}

fn service_row(view: &TableView, listed: &ListedService, show: EndpointText<'_>) -> String {
    let name = service_name(listed.service.id, show);
    let numbers = match view.format {
        Format::Stats => listed.stats.counters,
        Format::Rates => listed.stats.rates,
        _ => {
            let words = service_words(&listed.service, SaveFormat::Ipvsadm);
            return format!("{name} {words}");
        }
    };
    let numbers = numbers.map(|number| large(number, view.digits)).concat();
    format!("{name:<33}{numbers}")
}

/// Formats the scheduler and its flags, in ipvsadm's order. ipvsadm leaves out mask and engine of a
/// service without persistence.
pub(super) fn service_words(service: &Service, format: SaveFormat) -> String {
    let mut words = vec![service.scheduler.to_string()];
    if service.flags != SchedFlags::default() {
        words.push(format!("({})", flag_names(service, format)));
    }
    if let Some(persistence) = service.persistence {
        words.push(format!("persistent {}", Persistence::get(persistence)));
    }
    if service.persistence.is_some() || format == SaveFormat::Whole {
        words.extend(netmask(service.netmask).map(|mask| format!("mask {mask}")));
        words.extend(service.engine.as_ref().map(|engine| format!("pe {engine}")));
    }
    if service.scheduling == Scheduling::Packets {
        words.push("ops".to_owned());
    }
    words.join(" ")
}

fn server_row(
    view: &TableView,
    protocol: Option<Protocol>,
    listed: &ListedServer,
    show: EndpointText<'_>,
) -> String {
    let server = &listed.server;
    let ip = server.id.address;
    let name = cut(show(protocol, ip, server.id.port), ip, SERVER_WIDTH);
    let name = format!("  -> {name:<28}");
    let (active, inactive) = (listed.active, listed.inactive);
    let weight = server.weight.get();
    let forward = match server.forward {
        Forward::Masquerade => "Masq",
        Forward::Local => "Local",
        Forward::Tunnel(_) => "Tunnel",
        Forward::Route => "Route",
    };
    match view.format {
        Format::Rules => {
            format!("{name} {forward:<7} {weight:<6} {active:<10} {inactive:<10}")
        }
        Format::Tunnels => {
            let tunnel = tunnel_words(server.forward);
            format!("{name} {forward:<7} {tunnel:<13} {weight:<6} {active:<10} {inactive:<10}")
        }
        Format::Thresholds => {
            let (upper, lower) = (server.upper.get(), server.lower.get());
            format!("{name} {upper:<10} {lower:<10} {active:<10} {inactive:<10}")
        }
        Format::Persistence => {
            let persistent = listed.persistent;
            format!("{name} {weight:<9} {persistent:<11} {active:<10} {inactive:<10}")
        }
        Format::Stats => {
            let counters = listed.stats.counters;
            let numbers = counters.map(|number| large(number, view.digits));
            format!("{name}{}", numbers.concat())
        }
        Format::Rates => {
            let [connections, packets @ .., bytes_in, bytes_out] = listed.stats.rates;
            let plain = [connections, packets[0], packets[1]].map(|rate| format!(" {rate:>8}"));
            let bytes = [bytes_in, bytes_out].map(|rate| large(rate, view.digits));
            format!("{name}{}{}", plain.concat(), bytes.concat())
        }
    }
}

fn tunnel_words(forward: Forward) -> String {
    let sign = |checksum| match checksum {
        Checksum::No => "-c",
        Checksum::Full => "+c",
        Checksum::Remote => "r+c",
    };
    match forward {
        Forward::Tunnel(Tunnel::Ipip) => "ipip".to_owned(),
        Forward::Tunnel(Tunnel::Gue { port, checksum }) => format!("gue:{port}:{}", sign(checksum)),
        Forward::Tunnel(Tunnel::Gre { checksum }) => format!("gre:{}", sign(checksum)),
        Forward::Masquerade | Forward::Local | Forward::Route => "n/a".to_owned(),
    }
}

/// Formats up to eight digits, or fewer with a unit.
fn large(number: u64, digits: CounterFormat) -> String {
    if digits == CounterFormat::Exact {
        let width = (number.to_string().len() + 1).max(9);
        return format!("{number:>width$}");
    }
    // Threshold, unit and its letter.
    let units = [
        (100_000_000_000_000, 1_000_000_000_000, 'T'),
        (100_000_000_000, 1_000_000_000, 'G'),
        (1_000_000_000, 1_000_000, 'M'),
        (100_000_000, 1_000, 'K'),
    ];
    match units.iter().find(|(from, ..)| number >= *from) {
        Some((_, unit, letter)) => format!("{:>8}{letter}", number / unit),
        None => format!("{number:>9}"),
    }
}

/// Formats `-S`.
pub(crate) fn save(
    names: Names,
    format: SaveFormat,
    mut table: Vec<ListedService>,
    files: &HostsAndServices,
) -> String {
    sort(&mut table);
    let show = |protocol, ip, port| files.show(names, protocol, ip, port);
    let mut text = String::new();
    for listed in &table {
        let id = listed.service.id;
        text += &service_line(&listed.service, &show, format);
        text.push('\n');
        for server in &listed.servers {
            text += &server_line(id, &server.server, &show, format);
            text.push('\n');
        }
    }
    text
}

/// Formats `-L --timeout`.
pub(crate) fn timeouts(timeouts: Timeouts) -> String {
    let [tcp, tcp_fin, udp] = timeouts.seconds();
    format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n")
}

/// Formats `-L --daemon`.
pub(crate) fn daemons(daemons: &[Daemon]) -> String {
    let row = |daemon: &Daemon| {
        let group = daemon.group.map(|group| group.get().to_string());
        format!(
            "{} sync daemon (mcast={}, syncid={}, maxlen={}, group={}, port={}, ttl={})\n",
            daemon.role.name(),
            daemon.link,
            daemon.sync_id,
            daemon.max_len.map_or(0, patchbay_types::ipvs::SyncLen::get),
            group.unwrap_or_default(),
            daemon.port.map_or(0, std::num::NonZeroU16::get),
            daemon.ttl.map_or(0, std::num::NonZeroU8::get),
        )
    };
    daemons.iter().map(row).collect()
}

/// Formats `-L -c`.
pub(crate) fn connections(
    view: &TableView,
    rows: &[Connection],
    files: &HostsAndServices,
) -> String {
    let mut text = "IPVS connection entries\n\
        pro expire state       source             virtual            "
        .to_owned();
    text += match view.format {
        Format::Persistence => "destination        pe name          pe_data\n",
        _ => "destination\n",
    };
    for row in rows {
        let protocol = match row.protocol.as_str() {
            "UDP" => Protocol::Udp,
            "SCT" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let show = |peer: Peer| files.show(view.names, Some(protocol), peer.address, peer.port);
        let expire = format!("{:02}:{:02}", row.expires / 60, row.expires % 60);
        let (client, service) = (show(row.client), show(row.virtual_end));
        let server = show(row.server);
        // Writing to a String can't fail.
        let _ = write!(text, "{:<3} {expire:<6} {:<11} ", row.protocol, row.state);
        let _ = match (&row.engine, view.format) {
            (Some((engine, data)), Format::Persistence) => {
                writeln!(
                    text,
                    "{client:<18} {service:<18} {server:<18} {engine:<16} {data}"
                )
            }
            _ => writeln!(text, "{client:<18} {service:<18} {server}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_formats_units_like_ipvsadm() {
        for (number, short, exact) in [
            (0, "        0", "        0"),
            (99_999_999, " 99999999", " 99999999"),
            (100_000_000, "  100000K", " 100000000"),
            (999_999_999, "  999999K", " 999999999"),
            (1_000_000_000, "    1000M", " 1000000000"),
            (99_999_999_999, "   99999M", " 99999999999"),
            (100_000_000_000, "     100G", " 100000000000"),
            (100_000_000_000_000, "     100T", " 100000000000000"),
        ] {
            assert_eq!(large(number, CounterFormat::Short), short);
            assert_eq!(large(number, CounterFormat::Exact), exact);
        }
    }
}
