//! Values of the recorded messages.

use patchbay_codec::{Packed, TableRowRef, pack, pack_flow};
use patchbay_grammar::ipvsadm::{Grammar, read_rules};
use patchbay_types::conntrack::{
    Ends, Filter, FilterFields, Flow, IcmpFilter, Mark, Masked, Nat, StatusMask, Translated, Tuple,
};
use patchbay_types::ipvs::{
    self, Change, Connection, ListedServer, Peer, Reading, Setting, Stats, SysctlValue,
};
use patchbay_types::{
    AdminState, Arp, CardTreatment, DadPolicy, Destination, Interface, InterfaceAddress,
    LinkChange, LinkFields, LinkFlags, LinkSpec, ListedAddress, Mtu, NetworkManager, Owner,
    PciAddress, PciPath, Place, Promisc, QueuePairs, RoutePattern, RouteRequest, RouteSpec, Scope,
};
use patchbay_wire::proto::conntrack::ListRequest;

/// Commands of ipvsadm that cover each change of the table.
pub(super) const COMMANDS: [&str; 17] = [
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

pub(super) fn change(command: &str) -> Change {
    read_rules(&Grammar::NUMERIC, command)
        .unwrap()
        .remove(0)
        .change
}

pub(super) fn concat<T: Packed>(values: impl IntoIterator<Item = T>) -> Vec<u8> {
    values.into_iter().flat_map(|value| pack(&value)).collect()
}

pub(super) fn address(ip: &str, prefix: u8) -> InterfaceAddress {
    InterfaceAddress::new(ip.parse().unwrap(), prefix).unwrap()
}

pub(super) fn path() -> PciPath {
    PciPath::new([8, 0].map(PciAddress::from_devfn).to_vec()).unwrap()
}

pub(super) fn link() -> LinkSpec {
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

fn listed(address: InterfaceAddress) -> ListedAddress {
    ListedAddress {
        address,
        owner: Owner::Patchbay,
    }
}

pub(super) fn interface() -> Interface {
    let link = link();
    let fields = link.parts();
    Interface {
        index: 300,
        name: (&fields.name).into(),
        mac: Some(fields.mac),
        mtu: 9000,
        addresses: fields.addresses.iter().copied().map(listed).collect(),
        path: Some(path()),
        queues: fields.queues,
        up: true,
        arp: fields.arp,
        carrier: None,
        promisc: None,
    }
}

/// Change of a card with every field since the first release.
pub(super) fn link_change() -> LinkChange {
    let change = LinkChange::new("eth1".parse().unwrap(), None, None, "addresses").unwrap();
    let flags = LinkFlags {
        state: Some(AdminState::Down),
        arp: Some(Arp::Off),
        promisc: Some(Promisc::On),
    };
    let change = change.with_flags(flags).with_card(Some(path()));
    change.with_rename("wan0".parse().ok())
}

pub(super) fn loopback() -> Interface {
    Interface {
        index: 1,
        name: "lo".parse().unwrap(),
        mac: None,
        mtu: 65536,
        addresses: vec![listed(address("127.0.0.1", 8))],
        path: None,
        queues: None,
        up: false,
        arp: Arp::On,
        carrier: None,
        promisc: None,
    }
}

pub(super) fn specs() -> Vec<RouteSpec> {
    let request = |dest: &str, gateway: &str, source: &str| RouteRequest {
        gateway: gateway.parse().ok(),
        source: source.parse().ok(),
        ..RouteRequest::open(dest.parse().unwrap(), "eth1".parse().unwrap())
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

pub(super) fn patterns() -> Vec<RoutePattern> {
    let net = Destination::Net("2001:db8::/32".parse().unwrap());
    let full = RoutePattern {
        gateway: "fe80::1".parse().ok(),
        source: "fd00::2".parse().ok(),
        scope: Some(Scope::UNIVERSE),
        metric: Some(1024),
        ..RoutePattern::open(net, "eth1".parse().ok())
    };
    vec![RoutePattern::open(Destination::Default, None), full]
}

pub(super) fn filter() -> Filter {
    let net = |ip: &str, prefix| Masked::prefix(ip.parse().unwrap(), prefix).ok();
    let nat = |address: &str, port| {
        Some(Translated {
            address: address.parse().ok(),
            port,
        })
    };
    Filter::new(FilterFields {
        family: Some(ipvs::Family::V4),
        orig: Ends {
            src: net("10.0.0.0", 8),
            dst: net("10.1.0.1", 32),
            src_port: Some(0),
            dst_port: Some(443),
            zone: None,
        },
        reply: Ends {
            src: net("192.0.2.1", 32),
            ..Ends::default()
        },
        protocol: Some(6),
        state: Some(3),
        icmp: IcmpFilter::default(),
        mark: Some(Mark {
            value: 5,
            mask: 255,
        }),
        zone: Some(7),
        labels: 0,
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

/// A request of the first release, which read flows in layout 0.
pub(super) fn in_layout_0(mut request: ListRequest) -> ListRequest {
    request.max_layout = 0;
    request
}

pub(super) fn flows_in_layout_0() -> Vec<u8> {
    let mut bytes = Vec::new();
    for flow in flows() {
        pack_flow(&flow, 0, &mut bytes);
    }
    bytes
}

pub(super) fn flows() -> [Flow; 2] {
    let tuple = |src: &str, dst: &str, port| Tuple {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        src_port: port,
        dst_port: Some(80),
        icmp: None,
        zone: 0,
    };
    let tcp = Flow {
        orig: tuple("10.0.0.9", "10.0.0.1", Some(1000)),
        reply: tuple("10.0.0.1", "10.0.0.9", None),
        protocol: 6,
        state: Some(3),
        status: 14,
        mark: u32::MAX,
        zone: 7,
        labels: 0,
        id: 300,
        timeout: Some(600),
    };
    let v6 = Flow {
        orig: tuple("fd00::9", "fd00::1", Some(53)),
        state: None,
        timeout: None,
        ..tcp
    };
    [tcp, v6]
}

pub(super) fn table() -> Vec<u8> {
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

pub(super) fn status() -> ipvs::Status {
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

pub(super) fn connections() -> Vec<Connection> {
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

pub(super) fn settings() -> (Vec<Reading>, Setting) {
    let reading = |sysctl, value| Reading { sysctl, value };
    let conntrack = reading("conntrack".parse().unwrap(), SysctlValue::One(1));
    let odd = reading("am_droprate".parse().unwrap(), SysctlValue::One(-1));
    (vec![conntrack, odd], Setting::new(conntrack).unwrap())
}

pub(super) fn places() -> Vec<Place> {
    vec![
        Place::Unknown,
        Place::NotOnBus,
        Place::NoDriver,
        Place::OtherDriver("vfio-pci".to_owned()),
        Place::OtherNamespace,
        Place::AgentNamespace,
    ]
}

pub(super) fn managers() -> Vec<NetworkManager> {
    let manager = |name: &str, pid, cards| NetworkManager {
        name: name.to_owned(),
        pid,
        cards,
    };
    vec![
        manager("systemd-networkd", 300, CardTreatment::Excluded),
        manager("dhcpcd", 301, CardTreatment::Managed),
    ]
}
