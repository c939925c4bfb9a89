//! One message for each request, reply and stream of the API, with every field set.

use ipnet::IpNet;
use patchbay_codec::{Packed, TableRowRef, pack};
use patchbay_grammar::ipvsadm::{Grammar, IpvsCommand, parse};
use patchbay_grammar::{NoNames, split};
use patchbay_types::conntrack::{
    Ends, Filter, FilterFields, Flow, Mark, Nat, StatusMask, Translated, Tuple,
};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{
    self, Change, Connection, Detail, Forward, ListedServer, Peer, Reading, RestoreMode, Restored,
    RuleLine, Setting, Stats, SysctlValue,
};
use patchbay_types::{
    Arp, DadPolicy, Destination, Interface, InterfaceAddress, LinkChange, LinkFields, LinkSpec,
    Mtu, PciAddress, PciPath, QueuePairs, Route, RoutePattern, RouteRequest, RouteSpec, Scope,
};
use patchbay_wire::convert;
use patchbay_wire::proto::{agent, conntrack as conntrack_wire, ipvs as ipvs_wire};
use protobuf::Message;

/// Commands of ipvsadm that cover each change of the table.
const COMMANDS: [&str; 17] = [
    "-A -t 10.0.0.1:80 -s rr -p 300 -M 255.255.0.0",
    "-A -u [2001:db8::1]:5060 -s sh -p 60 -M 64 --pe sip -o -b sh-port",
    "-E -f 4294967295 -6 -s wlc",
    "-D --sctp-service 10.0.0.1:2905",
    "-C",
    "-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 65536 -x 100 -y 50",
    "-a -f 1 -r [2001:db8::2]:0 -i --tun-type gue --tun-port 6080 --tun-remcsum",
    "-e -f 1 -r 10.0.0.2:80 -i --tun-type gre --tun-csum",
    "-e -f 1 -r 10.0.0.2:80 -i",
    "-e -f 1 -r 10.0.0.2:80 -g -w 0",
    "-d -t 10.0.0.1:80 -r 10.0.0.2:80",
    "-Z",
    "-Z -f 7",
    "--set 1 0 2678400",
    "--start-daemon master --mcast-interface eth1 --syncid 7 --sync-maxlen 1400 --mcast-group ff02::99 --mcast-port 9000 --mcast-ttl 5",
    "--start-daemon backup",
    "--stop-daemon backup",
];

fn change(command: &str) -> Change {
    let grammar = Grammar {
        names: &NoNames,
        forward: Forward::Route,
    };
    let words = split(command).unwrap();
    match parse(&grammar, &words) {
        Ok(IpvsCommand::Change(change)) => change,
        other => panic!("{command}: {other:?}"),
    }
}

fn concat<T: Packed>(values: impl IntoIterator<Item = T>) -> Vec<u8> {
    values.into_iter().flat_map(|value| pack(&value)).collect()
}

fn address(ip: &str, prefix: u8) -> InterfaceAddress {
    InterfaceAddress::new(ip.parse().unwrap(), prefix).unwrap()
}

fn path() -> PciPath {
    PciPath::new([8, 0].map(PciAddress::from_devfn).to_vec()).unwrap()
}

fn link() -> LinkSpec {
    let fields = LinkFields {
        name: "eth-test".parse().unwrap(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mtu: Mtu::try_from(9000).unwrap(),
        addresses: vec![address("172.16.0.3", 16), address("fd00::3", 64)],
        queues: Some(QueuePairs::try_from(4).unwrap()),
        arp: Arp::Off,
    };
    LinkSpec::new(fields, "addresses")
        .unwrap()
        .with_dad(DadPolicy::Detect)
}

fn interface() -> Interface {
    let link = link();
    let fields = link.parts();
    Interface {
        index: 300,
        name: fields.name.to_string(),
        mac: Some(fields.mac),
        mtu: 9000,
        addresses: fields.addresses.clone(),
        path: Some(path()),
        queues: fields.queues,
        up: true,
        arp: fields.arp,
    }
}

fn loopback() -> Interface {
    Interface {
        index: 1,
        name: "lo".to_owned(),
        mac: None,
        mtu: 65536,
        addresses: vec![address("127.0.0.1", 8)],
        path: None,
        queues: None,
        up: false,
        arp: Arp::On,
    }
}

fn specs() -> Vec<RouteSpec> {
    let request = |dest: &str, gateway: &str, source: &str| RouteRequest {
        dest: dest.parse().unwrap(),
        gateway: gateway.parse().ok(),
        source: source.parse().ok(),
        device: "eth1".parse().unwrap(),
        scope: None,
        metric: None,
    };
    let full = RouteRequest {
        scope: Some(Scope::try_from(200).unwrap()),
        metric: Some(300),
        ..request("10.0.0.0/8", "10.0.0.1", "10.0.0.2")
    };
    [
        full,
        request("::/0", "fe80::1", "fd00::2"),
        request("192.0.2.0/24", "", ""),
    ]
    .map(|request| RouteSpec::new(request).unwrap())
    .to_vec()
}

fn patterns() -> Vec<RoutePattern> {
    let any = RoutePattern {
        dest: Destination::Default,
        gateway: None,
        source: None,
        device: None,
        scope: None,
        metric: None,
    };
    let full = RoutePattern {
        dest: Destination::Net("2001:db8::/32".parse().unwrap()),
        gateway: "fe80::1".parse().ok(),
        source: "fd00::2".parse().ok(),
        device: "eth1".parse().ok(),
        scope: Some(Scope::UNIVERSE),
        metric: Some(1024),
    };
    vec![any, full]
}

fn filter() -> Filter {
    let net = |text: &str| Some(text.parse::<IpNet>().unwrap());
    let nat = |address: &str, port| {
        Some(Translated {
            address: address.parse().ok(),
            port,
        })
    };
    Filter::new(FilterFields {
        family: Some(ipvs::Family::V4),
        orig: Ends {
            src: net("10.0.0.0/8"),
            dst: net("10.1.0.1/32"),
            src_port: Some(0),
            dst_port: Some(443),
        },
        reply: Ends {
            src: net("192.0.2.1/32"),
            ..Ends::default()
        },
        protocol: Some(6),
        tcp_state: Some(3),
        mark: Some(Mark {
            value: 5,
            mask: 255,
        }),
        zone: Some(7),
        status: StatusMask {
            set: 14,
            clear: 512,
        },
        id: Some(u32::MAX),
        nat: Nat {
            source: nat("10.2.0.1", Some(99)),
            destination: nat("10.3.0.1", None),
            any: nat("", None),
        },
    })
    .unwrap()
}

fn flows() -> [Flow; 2] {
    let tuple = |src: &str, dst: &str, port| Tuple {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        src_port: port,
        dst_port: Some(80),
    };
    let tcp = Flow {
        orig: tuple("10.0.0.9", "10.0.0.1", Some(1000)),
        reply: tuple("10.0.0.1", "10.0.0.9", None),
        protocol: 6,
        tcp_state: Some(3),
        status: 14,
        mark: u32::MAX,
        zone: 7,
        id: 300,
        timeout: Some(600),
    };
    let v6 = Flow {
        orig: tuple("fd00::9", "fd00::1", Some(53)),
        tcp_state: None,
        timeout: None,
        ..tcp
    };
    [tcp, v6]
}

fn table() -> Vec<u8> {
    let stats = Stats {
        counters: [1, 0, 300, u64::MAX, 0],
        rates: [0, 5, 0, 0, 70_000],
    };
    let (Change::AddService(service), Change::AddServer(_, server)) =
        (change(COMMANDS[1]), change(COMMANDS[6]))
    else {
        unreachable!()
    };
    let server = ListedServer {
        server,
        active: 7,
        inactive: 300,
        persistent: 0,
        stats: Stats::default(),
    };
    let mut rows = Vec::new();
    TableRowRef::Service(&service, &stats).pack(&mut rows);
    TableRowRef::Server(&server).pack(&mut rows);
    rows
}

fn status() -> ipvs::Status {
    let (Change::SetTimeouts(timeouts), Change::StartDaemon(master), Change::StartDaemon(backup)) = (
        change(COMMANDS[13]),
        change(COMMANDS[14]),
        change(COMMANDS[15]),
    ) else {
        unreachable!()
    };
    ipvs::Status {
        version: 0x01_02_01,
        table_size: 4096,
        timeouts,
        daemons: vec![master, backup],
    }
}

fn connections() -> Vec<Connection> {
    let peer = |address: &str, port| Peer {
        address: address.parse().unwrap(),
        port,
    };
    let tcp = Connection {
        protocol: "TCP".to_owned(),
        client: peer("10.0.0.9", 1000),
        virtual_end: peer("10.0.0.1", 80),
        server: peer("10.0.0.2", 8080),
        state: "ESTABLISHED".to_owned(),
        expires: 899,
        engine: None,
    };
    let sip = Connection {
        client: peer("fd00::9", 5060),
        engine: Some(("sip".to_owned(), "call-id".to_owned())),
        ..tcp.clone()
    };
    vec![tcp, sip]
}

fn settings() -> (Vec<Reading>, Setting) {
    let reading = |sysctl, value| Reading { sysctl, value };
    let conntrack = reading("conntrack".parse().unwrap(), SysctlValue::One(1));
    let odd = reading("am_droprate".parse().unwrap(), SysctlValue::One(-1));
    (vec![conntrack, odd], Setting::new(conntrack).unwrap())
}

/// The messages by name; of a stream a single one.
pub(crate) fn all() -> Vec<(String, Vec<u8>)> {
    let mut messages = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| messages.push((name.to_owned(), bytes));
    agent_messages(&mut add);
    conntrack_messages(&mut add);
    ipvs_messages(&mut add);
    messages
}

fn bytes(message: &impl Message) -> Vec<u8> {
    message.write_to_bytes().unwrap()
}

fn agent_messages(add: &mut impl FnMut(&str, Vec<u8>)) {
    add(
        "Hello.request",
        bytes(&agent::HelloRequest {
            api_version: 1,
            ..Default::default()
        }),
    );
    add(
        "Hello.reply",
        bytes(&agent::HelloReply {
            api_version: 1,
            agent_version: "0.1.0".to_owned(),
            kernel: "6.1.0-49-cloud-amd64".to_owned(),
            features: [
                "interfaces",
                "routes",
                "ipvs",
                "conntrack",
                "ethtool-netlink",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..Default::default()
        }),
    );
    let mut configure = convert::configure_request(&path(), &link());
    configure.wait_ms = 30_000;
    add("ConfigureInterface.request", bytes(&configure));
    add(
        "ConfigureInterface.reply",
        bytes(&agent::Configured {
            interface: Some((&interface()).into()).into(),
            discovery_us: 20_000,
            netlink_us: 700,
            ..Default::default()
        }),
    );
    add(
        "ListInterfaces.request",
        bytes(&agent::ListInterfacesRequest::default()),
    );
    add(
        "ListInterfaces.reply",
        bytes(&agent::ListInterfacesReply {
            interfaces: [loopback(), interface()].iter().map(Into::into).collect(),
            ..Default::default()
        }),
    );
    let addresses = vec![address("172.16.0.4", 16)];
    let mtu = Mtu::try_from(1500).ok();
    let update =
        LinkChange::new("eth1".parse().unwrap(), Some(addresses), mtu, "addresses").unwrap();
    let update = convert::update_request(&update.with_dad(DadPolicy::Detect));
    add("UpdateInterface.request", bytes(&update));
    add(
        "UpdateInterface.reply",
        bytes(&agent::Interface::from(&interface())),
    );
    add(
        "AddRoutes.request",
        bytes(&convert::routes_request(&specs())),
    );
    add("AddRoutes.reply", bytes(&agent::RoutesReply::default()));
    add(
        "ReplaceRoutes.request",
        bytes(&convert::routes_request(&[])),
    );
    add("ReplaceRoutes.reply", bytes(&agent::RoutesReply::default()));
    add(
        "DeleteRoutes.request",
        bytes(&convert::delete_request(&patterns())),
    );
    add("DeleteRoutes.reply", bytes(&agent::RoutesReply::default()));
    add(
        "ListRoutes.request",
        bytes(&agent::ListRoutesRequest::default()),
    );
    let routes: Vec<Route> = specs().iter().map(RouteSpec::resolve).collect();
    add("ListRoutes.reply", bytes(&convert::routes_reply(&routes)));
    let failure = Failure::new(Kind::Exists, "could not rename eth0")
        .with_field("name")
        .with_errno(17)
        .with_cause("the name is taken");
    let ttrpc::Error::RpcStatus(status) = patchbay_wire::status::from_failure(&failure) else {
        unreachable!()
    };
    add("failure", status.write_to_bytes().unwrap());
}

fn conntrack_messages(add: &mut impl FnMut(&str, Vec<u8>)) {
    add(
        "Conntrack.Delete.request",
        bytes(&conntrack_wire::DeleteRequest::from(&filter())),
    );
    add(
        "Conntrack.Delete.reply",
        bytes(&conntrack_wire::DeleteReply {
            deleted: 300,
            ..Default::default()
        }),
    );
    add(
        "Conntrack.List.request",
        bytes(&convert::conntrack::list_request(Some(&filter()))),
    );
    add(
        "Conntrack.List.reply",
        bytes(&conntrack_wire::ListChunk {
            flows: concat(flows()),
            ..Default::default()
        }),
    );
}

fn ipvs_messages(add: &mut impl FnMut(&str, Vec<u8>)) {
    for (command, number) in COMMANDS.into_iter().zip(1..) {
        let request = convert::ipvs::change_request(&change(command), 20_000);
        add(&format!("Ipvs.Change.request.{number}"), bytes(&request));
    }
    add(
        "Ipvs.Change.reply",
        bytes(&ipvs_wire::ChangeReply::default()),
    );
    let lines = COMMANDS
        .into_iter()
        .zip(1..)
        .map(|(command, number)| RuleLine {
            number,
            change: change(command),
        });
    add(
        "Ipvs.Restore.request",
        bytes(&ipvs_wire::RestoreChunk {
            mode: convert::ipvs::mode_number(RestoreMode::Merge),
            max_rules: 20_000,
            rules: concat(lines),
            last: true,
            ..Default::default()
        }),
    );
    let restored = Restored {
        added: 300,
        edited: 2,
        deleted: 1,
    };
    add(
        "Ipvs.Restore.reply",
        bytes(&ipvs_wire::RestoreReply::from(restored)),
    );
    let Change::DeleteService(id) = change(COMMANDS[3]) else {
        unreachable!()
    };
    add(
        "Ipvs.Table.request",
        bytes(&convert::ipvs::table_request(Some(id), Detail::Full)),
    );
    add(
        "Ipvs.Table.reply",
        bytes(&ipvs_wire::TableChunk {
            rows: table(),
            ..Default::default()
        }),
    );
    add(
        "Ipvs.Status.request",
        bytes(&ipvs_wire::StatusRequest::default()),
    );
    add(
        "Ipvs.Status.reply",
        bytes(&ipvs_wire::StatusReply::from(&status())),
    );
    add(
        "Ipvs.Connections.request",
        bytes(&ipvs_wire::ConnectionsRequest::default()),
    );
    add(
        "Ipvs.Connections.reply",
        bytes(&ipvs_wire::ConnectionsChunk {
            connections: connections().iter().map(Into::into).collect(),
            ..Default::default()
        }),
    );
    let (readings, setting) = settings();
    add(
        "Ipvs.Sysctls.request",
        bytes(&ipvs_wire::SysctlsRequest::default()),
    );
    add(
        "Ipvs.Sysctls.reply",
        bytes(&ipvs_wire::SysctlsReply {
            readings: concat(readings),
            ..Default::default()
        }),
    );
    add(
        "Ipvs.SetSysctl.request",
        bytes(&ipvs_wire::SetSysctlRequest {
            setting: pack(&setting),
            ..Default::default()
        }),
    );
    add(
        "Ipvs.SetSysctl.reply",
        bytes(&ipvs_wire::SetSysctlReply::default()),
    );
}
