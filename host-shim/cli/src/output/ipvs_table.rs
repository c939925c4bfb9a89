//! Table of virtual services for people, each followed by its servers.

use patchbay_grammar::ipvsadm::{Format, SaveFormat, SortOrder, TableView};
use patchbay_types::ipvs::{Forward, ListedServer, ListedService, Stats, Tunnel};

use super::ipvs;
use super::table::Cells;
use crate::name_service::HostsAndServices;

/// Indentation of a server.
const INDENT: &str = "  ";

/// Returns the rows, with the columns of the view.
pub(crate) fn rows(
    view: &TableView,
    mut table: Vec<ListedService>,
    files: &HostsAndServices,
) -> Vec<Cells> {
    if view.order == SortOrder::Sorted {
        ipvs::sort(&mut table);
    }
    let rows = table.iter().flat_map(|listed| {
        let protocol = listed.service.id.protocol();
        let servers = listed.servers.iter().map(move |server| {
            let id = server.server.id;
            let endpoint = files.show(view.names, protocol, id.address, id.port);
            let cells = Cells::default().with("SERVICE", format!("{INDENT}{endpoint}"));
            server_cells(cells, view.format, server)
        });
        let show = |protocol, ip, port| files.show(view.names, protocol, ip, port);
        let name = ipvs::service_name(listed.service.id, &show);
        let cells = Cells::default().with("SERVICE", name);
        let service = service_cells(cells, view.format, listed);
        std::iter::once(service).chain(servers)
    });
    rows.collect()
}

fn service_cells(cells: Cells, format: Format, listed: &ListedService) -> Cells {
    match format {
        Format::Stats | Format::Rates => counters(cells, format, listed.stats),
        Format::Rules | Format::Tunnels | Format::Thresholds | Format::Persistence => {
            let words = ipvs::service_words(&listed.service, SaveFormat::Whole);
            cells.with("SCHEDULER", words)
        }
    }
}

fn server_cells(cells: Cells, format: Format, listed: &ListedServer) -> Cells {
    let server = &listed.server;
    let cells = match format {
        Format::Stats | Format::Rates => return counters(cells, format, listed.stats),
        Format::Rules | Format::Tunnels => cells
            .with("FORWARD", forward(server.forward))
            .with("WEIGHT", server.weight.get()),
        Format::Thresholds => cells
            .with("UPPER", server.upper.get())
            .with("LOWER", server.lower.get()),
        Format::Persistence => cells
            .with("WEIGHT", server.weight.get())
            .with("PERSISTENT", listed.persistent),
    };
    cells
        .with("ACTIVE", listed.active)
        .with("INACTIVE", listed.inactive)
}

fn counters(cells: Cells, format: Format, stats: Stats) -> Cells {
    #[rustfmt::skip]
    let (titles, values) = match format {
        Format::Rates => {
            (["CONNS/S", "PACKETS IN/S", "PACKETS OUT/S", "BYTES IN/S", "BYTES OUT/S"], stats.rates)
        }
        _ => (["CONNS", "PACKETS IN", "PACKETS OUT", "BYTES IN", "BYTES OUT"], stats.counters),
    };
    let columns = titles.into_iter().zip(values);
    columns.fold(cells, |cells, (title, value)| cells.with(title, value))
}

fn forward(forward: Forward) -> String {
    match forward {
        Forward::Masquerade => "nat".to_owned(),
        Forward::Local => "local".to_owned(),
        Forward::Route => "route".to_owned(),
        Forward::Tunnel(Tunnel::Ipip) => "tunnel ipip".to_owned(),
        Forward::Tunnel(Tunnel::Gue { port, .. }) => format!("tunnel gue:{port}"),
        Forward::Tunnel(Tunnel::Gre { .. }) => "tunnel gre".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use patchbay_grammar::ipvsadm::{CounterFormat, Grammar, Names, read_rules};
    use patchbay_types::ipvs::{Change, RuleLine};

    use super::*;
    use crate::output::table;

    const RULES: &str = "-A -t 10.0.0.1:80 -s rr -p 300\n\
        -a -t 10.0.0.1:80 -r 10.0.0.20:8080 -m -w 70000 -x 9 -y 5\n\
        -a -t 10.0.0.1:80 -r 10.0.0.3:80 -g\n\
        -A -u [2001:db8::1]:53 -s wlc -o\n\
        -a -u [2001:db8::1]:53 -r 10.0.0.4:53 -i --tun-type gue --tun-port 6080 --tun-nocsum\n\
        -A -f 7 -s sh\n";

    /// The rules as a kernel lists them.
    fn listed() -> Vec<ListedService> {
        let grammar = Grammar {
            names: &HostsAndServices::parse("", "", ""),
            forward: Forward::Route,
        };
        let mut table: Vec<ListedService> = Vec::new();
        for RuleLine { change, .. } in read_rules(&grammar, RULES).unwrap() {
            match change {
                Change::AddService(service) => table.push(ListedService {
                    service,
                    stats: Stats {
                        counters: [12, 3_000_000_000, 4, 5, 6],
                        rates: [1, 2, 3, 4, 5],
                    },
                    servers: Vec::new(),
                }),
                Change::AddServer(_, server) => {
                    let servers = &mut table.last_mut().unwrap().servers;
                    servers.push(ListedServer {
                        server,
                        active: 3,
                        inactive: 14,
                        persistent: 2,
                        stats: Stats::default(),
                    });
                }
                other => panic!("{other:?}"),
            }
        }
        table
    }

    fn rendered(format: Format) -> String {
        let view = TableView {
            service: None,
            format,
            order: SortOrder::Sorted,
            names: Names::Numeric,
            digits: CounterFormat::Short,
        };
        table::render(&rows(&view, listed(), &HostsAndServices::parse("", "", "")))
    }

    #[test]
    fn rows_servers_follow_their_service() {
        let table = "\
SERVICE                SCHEDULER          FORWARD          WEIGHT  ACTIVE  INACTIVE
TCP  10.0.0.1:80       rr persistent 300
  10.0.0.3:80                             route            1       3       14
  10.0.0.20:8080                          nat              70000   3       14
UDP  [2001:db8::1]:53  wlc ops
  10.0.0.4:53                             tunnel gue:6080  1       3       14
FWM  7                 sh
";
        assert_eq!(rendered(Format::Rules), table);
    }

    #[test]
    fn rows_each_format_has_its_columns() {
        let stats = "\
SERVICE                CONNS  PACKETS IN  PACKETS OUT  BYTES IN  BYTES OUT
TCP  10.0.0.1:80       12     3000000000  4            5         6
  10.0.0.3:80          0      0           0            0         0
  10.0.0.20:8080       0      0           0            0         0
UDP  [2001:db8::1]:53  12     3000000000  4            5         6
  10.0.0.4:53          0      0           0            0         0
FWM  7                 12     3000000000  4            5         6
";
        assert_eq!(rendered(Format::Stats), stats);
        for (format, titles) in [
            (
                Format::Rates,
                "SERVICE CONNS/S PACKETS IN/S PACKETS OUT/S BYTES IN/S BYTES OUT/S",
            ),
            (
                Format::Thresholds,
                "SERVICE SCHEDULER UPPER LOWER ACTIVE INACTIVE",
            ),
            (
                Format::Persistence,
                "SERVICE SCHEDULER WEIGHT PERSISTENT ACTIVE INACTIVE",
            ),
        ] {
            let table = rendered(format);
            let first: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
            assert_eq!(first.join(" "), titles);
        }
    }

    #[test]
    fn rows_without_services_are_empty() {
        let view = TableView {
            service: None,
            format: Format::Rules,
            order: SortOrder::Sorted,
            names: Names::Numeric,
            digits: CounterFormat::Short,
        };
        assert_eq!(
            table::render(&rows(
                &view,
                Vec::new(),
                &HostsAndServices::parse("", "", "")
            )),
            ""
        );
    }
}
