//! TCP and UDP traffic through a virtual service of the guest to three servers: how it is balanced, and
//! the effect of changed rules and deleted flows on open connections.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::Duration;

use patchbay_tests::balance::{Balancer, VIP, ask, shares};

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

struct Field(Balancer);

impl Field {
    /// Adds a service with these options and the three servers with these weights.
    fn service(&self, service: &str, words: &str, weights: [u8; 3]) {
        let guest = &self.0.guest;
        guest.ipvsadm(&format!("-A {service} {words}")).ok();
        for (host, weight) in (1..).zip(weights) {
            let server = format!("-a {service} -r 10.2.0.{host} -m -w {weight}");
            guest.ipvsadm(&server).ok();
        }
    }

    /// Counts the answers per server to TCP connections and to datagrams from one address.
    fn shares(&self, port: u16, count: usize) -> [[usize; 3]; 2] {
        let client = &self.0.clients[0];
        let streams = client.connections(port, count);
        [
            shares(streams.iter().map(|(_, number)| *number)),
            shares(client.datagrams(FIRST, port, count)),
        ]
    }
}

#[test]
fn schedulers_balance_by_weight() {
    let field = Field(Balancer::start());
    let both = |port: u16, words: &str, weights| {
        field.0.serve(port);
        field.service(&format!("-t {VIP}:{port}"), words, weights);
        field.service(&format!("-u {VIP}:{port}"), words, weights);
    };

    both(8001, "-s rr", [1, 1, 1]);
    assert_eq!(field.shares(8001, 30), [[10, 10, 10]; 2], "rr");

    both(8002, "-s wrr", [1, 2, 3]);
    assert_eq!(field.shares(8002, 60), [[10, 20, 30]; 2], "wrr");

    both(8003, "-s wrr", [1, 0, 1]);
    assert_eq!(field.shares(8003, 10), [[5, 0, 5]; 2], "weight 0");

    let whole = |shares: &[usize; 3], count| shares.contains(&count);
    both(8004, "-s sh", [1, 1, 1]);
    let [tcp, udp] = field.shares(8004, 12);
    assert!(whole(&tcp, 12) && whole(&udp, 12), "sh: {tcp:?} {udp:?}");
    // The hash is that of the address, independent of the protocol.
    assert_eq!(tcp, udp, "sh");

    both(8005, "-s rr -p 60", [1, 1, 1]);
    let [tcp, udp] = field.shares(8005, 12);
    assert!(whole(&tcp, 12) && whole(&udp, 12), "-p: {tcp:?} {udp:?}");
    // The second client gets the next server.
    let other = &field.0.clients[1];
    let numbers = other.connections(8005, 12).into_iter().map(|(_, n)| n);
    let second = shares(numbers);
    assert!(whole(&second, 12) && second != tcp, "{second:?} {tcp:?}");
    let second = shares(other.datagrams(SECOND, 8005, 12));
    assert!(whole(&second, 12) && second != udp, "{second:?} {udp:?}");
}

#[test]
fn sh_spreads_clients_by_address() {
    let field = Field(Balancer::start());
    field.0.serve(8001);
    field.service(&format!("-u {VIP}:8001"), "-s sh", [1, 1, 1]);
    let client = &field.0.clients[0];
    let mut seen = [0; 3];
    for host in 11..35 {
        let address = Ipv4Addr::new(10, 1, 0, host);
        client
            .netns()
            .ip(&format!("addr add {address}/24 dev eth0"))
            .ok();
        let shares = shares(client.datagrams(address, 8001, 4));
        assert!(shares.contains(&4), "{address}: {shares:?}");
        for (seen, share) in seen.iter_mut().zip(shares) {
            *seen += share;
        }
    }
    assert!(seen.iter().all(|share| *share > 0), "{seen:?}");
}

/// Asserts that each connection still leads to its server.
fn assert_same_servers(streams: &mut [(TcpStream, u8)]) {
    for (stream, number) in streams {
        assert_eq!(ask(stream), *number);
    }
}

/// Does the work with rounds of traffic meanwhile, at least one of them before it.
fn while_talking(mut round: impl FnMut() + Send, work: impl FnOnce()) {
    round();
    thread::scope(|scope| {
        // Dropped also if the work panics.
        let (ended, end) = mpsc::channel::<()>();
        scope.spawn(move || {
            while end.try_recv() == Err(TryRecvError::Empty) {
                round();
            }
        });
        work();
        drop(ended);
    });
}

/// Returns the counters of ipvsadm for each service and server.
fn counters(field: &Field) -> BTreeMap<String, Vec<u64>> {
    // The kernel updates the visible counters every two seconds.
    thread::sleep(Duration::from_secs(3));
    let shown = field.0.guest.exec("ipvsadm -Ln --stats --exact").ok();
    let rows = shown.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word == "->");
        let first = words.next()?;
        let place = if ["TCP", "UDP"].contains(&first) {
            words.next()?
        } else {
            first
        };
        let numbers: Option<Vec<u64>> = words.map(|word| word.parse().ok()).collect();
        Some((
            place.to_owned(),
            numbers.filter(|numbers| numbers.len() == 5)?,
        ))
    });
    rows.collect()
}

#[test]
fn replace_keeps_connections_of_kept_services() {
    let field = Field(Balancer::start());
    let service = format!("-t {VIP}:8001");
    let server = |host: u8, weight: u8| format!("-a {service} -r 10.2.0.{host} -m -w {weight}\n");
    field.0.serve(8001);
    let head = format!("-A {service} -s wrr\n");
    let before = format!(
        "{head}{}{}-A -t {VIP}:9001 -s rr\n-a -t {VIP}:9001 -r 10.2.0.1 -m\n-A -u {VIP}:9002 -s rr\n",
        server(1, 1),
        server(2, 1)
    );
    field.0.guest.restore(&[], &before).ok();
    let mut open = field.0.clients[0].connections(8001, 50);
    assert_eq!(shares(open.iter().map(|(_, n)| *n)), [25, 25, 0]);
    let counted = counters(&field);
    assert_eq!(counted[&format!("{VIP}:8001")][0], 50, "{counted:?}");

    // One weight changes, one server is added; one service is deleted, one changed, one added.
    let after = format!(
        "{head}{}{}{}-A -u {VIP}:9002 -s sh\n-A -t {VIP}:9003 -s rr\n",
        server(1, 1),
        server(2, 3),
        server(3, 1)
    );
    let replace = || drop(field.0.guest.restore(&["--replace"], &after).ok());
    // Ten of them carry traffic while the rules are replaced.
    let (ten, _) = open.split_at_mut(10);
    while_talking(|| assert_same_servers(ten), replace);
    assert_same_servers(&mut open);
    let saved = field.0.guest.exec("ipvsadm -Sn").ok();
    let lines = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let wanted = after.replace("10.2.0.1 ", "10.2.0.1:8001 ");
    let wanted = wanted.replace("10.2.0.2 ", "10.2.0.2:8001 ");
    let wanted = wanted.replace("10.2.0.3 ", "10.2.0.3:8001 ");
    assert_eq!(lines(&saved), lines(&wanted));
    let after = counters(&field);
    for (place, numbers) in counted.iter().filter(|(place, _)| !place.contains(":900")) {
        let now = &after[place];
        // No connection was reopened and no counter reset.
        assert_eq!(now[0], numbers[0], "{place}: {numbers:?} {now:?}");
        assert!(now[1] > numbers[1], "{place}: {numbers:?} {now:?}");
    }
    let listed = field.0.guest.exec("ipvsadm -Ln").ok();
    let active = |host| format!("10.2.0.{host}:8001");
    for host in [1, 2] {
        let line = listed.lines().find(|line| line.contains(&active(host)));
        let words: Vec<_> = line.unwrap().split_whitespace().collect();
        assert_eq!(words[4..], ["25", "0"], "{listed}");
    }
}

/// Returns the IDs of the flows, keyed by original tuple. A recreated flow has another ID.
fn flows(field: &Field) -> BTreeMap<String, String> {
    let shown = field.0.guest.exec("conntrack -L -o id").ok();
    let flow = |line: &str| {
        let part = |name: &str| {
            let found = line.split_whitespace().find(|word| word.starts_with(name));
            found.unwrap_or_default().to_owned()
        };
        let tuple = ["src=", "dst=", "sport=", "dport="].map(part);
        let protocol = line.split_whitespace().next().unwrap();
        (format!("{protocol} {}", tuple.join(" ")), part("id="))
    };
    shown.lines().map(flow).collect()
}

#[test]
fn cleanup_under_traffic_is_exact() {
    let field = Field(Balancer::start());
    let guest = &field.0.guest;
    for port in [8001, 8002] {
        field.0.serve(port);
        field.service(&format!("-t {VIP}:{port}"), "-s rr", [1, 1, 1]);
    }
    // The FTP helper makes the kernel track flows, those of IPVS only with this sysctl.
    guest.ipvsadm(&format!("-A -t {VIP}:21")).ok();
    guest
        .ipvsadm(&format!("-a -t {VIP}:21 -r 10.2.0.1 -m"))
        .ok();
    guest.exec("sysctl -w net.ipv4.vs.conntrack=1").ok();
    // Loads the modules of conntrack, which the guest can't load on demand.
    guest.cleanup("--orig-dst 10.9.0.1 --protonum tcp").ok();
    let mut script = String::new();
    for at in 0..50 {
        writeln!(
            script,
            "conntrack -I -p udp -s 10.9.0.9 -d 10.9.{}.1 --sport {} --dport 53 -t 600 -u SEEN_REPLY,ASSURED",
            at % 2,
            2000 + at
        )
        .unwrap();
    }
    guest
        .sandbox(&["exec", guest.id(), "--", "sh", "-ec", &script])
        .ok();

    let mut idle = field.0.clients[0].connections(8001, 20);
    let mut live = field.0.clients[1].connections(8002, 10);
    let before = flows(&field);
    let named = |tuple: &str| {
        let idle = tuple.contains(&format!("dst={VIP} ")) && tuple.contains("dport=8001");
        idle || tuple.contains("dst=10.9.1.1 ")
    };
    let traffic = || {
        assert_same_servers(&mut live);
        // Adds flows while others are deleted.
        field.0.clients[1].connections(8002, 1);
    };
    while_talking(traffic, || {
        for (words, deleted) in [
            (format!("--orig-dst {VIP} --protonum tcp --dport 8001"), 20),
            ("--orig-dst 10.9.1.1 --protonum udp".to_owned(), 25),
        ] {
            let expected = format!("{deleted} flow entries have been deleted.\n");
            assert_eq!(guest.cleanup(&words).ok(), expected, "{words}");
        }
    });
    let after = flows(&field);
    assert_eq!(before.keys().filter(|tuple| named(tuple)).count(), 45);
    assert!(!after.keys().any(|tuple| named(tuple)), "{after:?}");
    for (tuple, id) in before.iter().filter(|(tuple, _)| !named(tuple)) {
        assert_eq!(after.get(tuple), Some(id), "{tuple}");
    }
    assert!(after.len() > before.len() - 45, "{after:?}");
    // Without its flow a connection continues, since IPVS has an entry for it.
    assert_same_servers(&mut idle);
}

/// Removes from the output of `-c` the remaining seconds and the order of the hash table.
fn timeless(shown: &str) -> Vec<String> {
    let mut rows: Vec<_> = shown
        .lines()
        .map(|line| {
            let words = line.split_whitespace().enumerate();
            let words = words.filter(|(at, word)| *at != 1 || !word.contains(':'));
            words.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn counters_and_connections_match_ipvsadm() {
    let field = Field(Balancer::start());
    let guest = &field.0.guest;
    field.0.serve(8001);
    field.service(&format!("-t {VIP}:8001"), "-s wrr", [1, 2, 3]);
    field.service(&format!("-u {VIP}:8001"), "-s rr -p 60", [1, 1, 1]);
    let mut open = field.0.clients[0].connections(8001, 12);
    field.0.clients[1].datagrams(SECOND, 8001, 20);
    // Enough packets for ipvsadm to print thousands.
    for _ in 0..2000 {
        ask(&mut open[0].0);
    }
    drop(open.split_off(6));
    // The kernel updates the visible counters every two seconds; then stop that.
    thread::sleep(Duration::from_secs(3));
    guest.exec("sysctl -w net.ipv4.vs.run_estimation=0").ok();
    for list in [
        "-L -n",
        "-L -n --stats",
        "-L -n --stats --exact",
        "-L -n --rate",
        "-L -n --thresholds",
        "-L -n --persistent-conn",
    ] {
        let theirs = guest.exec(&format!("ipvsadm {list}")).ok();
        assert_eq!(guest.ipvsadm(list).ok(), theirs, "{list}");
    }
    for list in ["-L -n -c", "-L -n -c --persistent-conn"] {
        let theirs = timeless(&guest.exec(&format!("ipvsadm {list}")).ok());
        // 12 of TCP, 20 of UDP, the template of their persistence, and two lines of heading.
        assert_eq!(theirs.len(), 35, "{theirs:#?}");
        assert_eq!(timeless(&guest.ipvsadm(list).ok()), theirs, "{list}");
    }
}
