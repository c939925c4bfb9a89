//! Connections that end: `end-connections`, `drain`, and the warnings about those that remain, with
//! clients and servers of both protocols and families.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::balance::{Balancer, VIP, VIP6, ask};
use patchbay_tests::{Done, patchbay, run};
use patchbay_types::failure::Kind;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);

/// Open connections with the numbers of their servers.
type Streams = Vec<(TcpStream, u8)>;

struct Field(Balancer);

impl Field {
    fn start() -> Self {
        let field = Self(Balancer::start());
        field.0.add_ipv6();
        field
    }

    /// Adds a service with servers 1 and 2.
    fn service(&self, service: &str, words: &str, servers: &str) {
        let guest = &self.0.guest;
        guest.ipvsadm(&format!("-A {service} {words}")).ok();
        for host in [1, 2] {
            let server = servers.replace('N', &host.to_string());
            guest
                .ipvsadm(&format!("-a {service} -r {server} -m -w 7"))
                .ok();
        }
    }

    fn native(&self, words: &str) -> Done {
        let guest = &self.0.guest;
        let words: Vec<&str> = words.split(' ').collect();
        guest.patchbay(&[&["ipvs", guest.id()], &words[..]].concat())
    }

    /// Ends connections and returns their number.
    fn end(&self, words: &str) -> usize {
        let done = self.native(&format!("end-connections {words}")).ok();
        let number = done.strip_suffix(" connections have been ended.\n");
        number.unwrap_or_else(|| panic!("{done}")).parse().unwrap()
    }

    /// Returns rules and the setting, which a command must leave as they were.
    fn state(&self) -> [String; 2] {
        let rules = self.0.guest.exec("ipvsadm -Sn").ok();
        let setting = "cat /proc/sys/net/ipv4/vs/expire_nodest_conn";
        [rules, self.0.guest.exec(setting).ok()]
    }

    /// Counts the rows of the kernel's table with this server.
    fn rows(&self, server: IpAddr) -> usize {
        let server = match server {
            IpAddr::V4(v4) => format!("{:08X}", v4.to_bits()),
            IpAddr::V6(v6) => v6.segments().map(|part| format!("{part:04x}")).join(":"),
        };
        let table = self.0.guest.exec("cat /proc/net/ip_vs_conn").ok();
        let is_of = |row: &&str| row.split_whitespace().nth(5) == Some(&server);
        table.lines().filter(is_of).count()
    }

    fn weights(&self) -> Vec<String> {
        let shown = self.0.guest.exec("ipvsadm -Ln").ok();
        let rows = shown.lines().filter(|row| row.contains("Masq"));
        rows.map(|row| row.split_whitespace().nth(3).unwrap().to_owned())
            .collect()
    }

    /// Waits until the weights of all servers are these.
    fn wait_for_weights(&self, weights: &[&str]) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.weights() != weights {
            assert!(Instant::now() < end, "{:?}", self.weights());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits for counters: the kernel adds up those of its processors every two seconds.
    fn wait_for_counters(&self, are_wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let counters = self.0.guest.exec("ipvsadm -Ln --stats --exact").ok();
            if are_wanted(&counters) {
                return counters;
            }
            assert!(Instant::now() < end, "{counters}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Starts `ipvs ID` with these words.
    fn spawn(&self, words: &str) -> Child {
        let guest = &self.0.guest;
        let words: Vec<&str> = words.split(' ').collect();
        let mut command = patchbay(
            guest.run_dir(),
            &[&["ipvs", guest.id()], &words[..]].concat(),
        );
        let pipes = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        pipes.spawn().unwrap()
    }
}

/// Sums up the connections of all services and those of all servers.
fn connections(counters: &str) -> [usize; 2] {
    let sum = |is_wanted: fn(&str) -> bool, column| {
        let rows = counters.lines().filter(|row| is_wanted(row));
        let words = rows.filter_map(|row| row.split_whitespace().nth(column));
        words.filter_map(|word| word.parse::<usize>().ok()).sum()
    };
    let is_service = |row: &str| row.starts_with("TCP") || row.starts_with("UDP");
    [sum(is_service, 2), sum(|row| row.contains("->"), 2)]
}

fn server(host: u16) -> IpAddr {
    Ipv4Addr::new(10, 2, 0, host.to_be_bytes()[1]).into()
}

fn server6(host: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, host).into()
}

/// Returns whether the connection still leads to its server.
fn lives((stream, number): &mut (TcpStream, u8)) -> bool {
    let mut answer = [0];
    let asked = stream
        .write_all(b"?")
        .and_then(|()| stream.read_exact(&mut answer));
    asked.is_ok() && answer[0] == *number
}

/// Asserts that exactly the connections to servers other than `ended` live.
fn assert_ended(streams: &mut Streams, ended: &[u8]) {
    for stream in streams {
        assert_eq!(
            lives(stream),
            !ended.contains(&stream.1),
            "server {}",
            stream.1
        );
    }
}

#[test]
fn end_connections_spares_other_servers_and_services() {
    let field = Field::start();
    for port in [8001, 8002] {
        field.0.serve(port);
    }
    let (v4, v6) = ("10.2.0.N:8001", "[fd00:2::N]:8001");
    field.service(&format!("-t {VIP}:8001"), "-s rr", v4);
    field.service(&format!("-u {VIP}:8001"), "-s rr", v4);
    field.service(&format!("-t {VIP}:8002"), "-s rr -p 60", "10.2.0.N:8002");
    field.service(&format!("-t [{VIP6}]:8001"), "-s rr", v6);
    field.service(&format!("-u [{VIP6}]:8001"), "-s rr -p 60", v6);
    let client = &field.0.clients[0];
    let to = |port| SocketAddr::from((VIP, port));
    let mut rr = client.connections_to(to(8001), 6);
    let mut persistent = client.connections_to(to(8002), 4);
    let mut rr6 = client.connections_to((VIP6, 8001).into(), 6);
    client.datagrams_to(CLIENT.into(), to(8001), 6);
    client.datagrams_to(CLIENT6.into(), (VIP6, 8001).into(), 6);
    let of_client = persistent[0].1;
    let before = field.state();
    let all = 6 + 4 + 6 + 6 + 6;
    let counters = field.wait_for_counters(|counters| connections(counters) == [all, all]);

    // The server of the persistent client: 3 of TCP, 3 of UDP, 4 and a template of the persistent service.
    let wanted = server(of_client.into());
    assert_eq!(field.rows(wanted), 11);
    let others = field.rows(server(3 - u16::from(of_client)));
    assert_eq!(field.end(&format!("--server {wanted}")), 11);
    assert_eq!(field.rows(wanted), 0);
    assert_eq!(field.rows(server(3 - u16::from(of_client))), others);
    assert_eq!(field.state(), before);
    field.wait_for_counters(|found| found == counters);
    assert_ended(&mut rr, &[of_client]);
    assert_ended(&mut persistent, &[of_client]);
    assert_ended(&mut rr6, &[]);
    // Its clients are served again.
    assert_eq!(client.connections_to(to(8001), 2).len(), 2);
    assert_eq!(client.datagrams_to(CLIENT.into(), to(8001), 2).len(), 2);

    // One service of a server.
    let udp6 = field.rows(server6(1)) - 3;
    let words = format!("--server {} --service tcp:[{VIP6}]:8001", server6(1));
    assert_eq!(field.end(&words), 3);
    assert_eq!(field.rows(server6(1)), udp6);
    assert_ended(&mut rr6, &[1]);
    // The persistent datagrams of a client have one server, with 6 connections and a template.
    let ended = [1, 2].map(|host| field.rows(server6(host)));
    let words = format!("--server fd00:2::1 --server fd00:2::2 --service udp:[{VIP6}]:8001");
    assert_eq!(field.end(&words), 7, "{ended:?}");
    assert_eq!(field.state(), before);
    let mut rr6_left: Streams = rr6.into_iter().filter(|(_, number)| *number == 2).collect();
    assert_ended(&mut rr6_left, &[]);
}

#[test]
fn deleted_server_keeps_connections_until_they_are_ended() {
    let field = Field::start();
    let guest = &field.0.guest;
    field.0.serve(8001);
    let service = format!("-t {VIP}:8001");
    field.service(&service, "-s rr", "10.2.0.N:8001");
    let mut open = field.0.clients[0].connections(8001, 6);
    let advice = |number: usize, server: &str| {
        let id = guest.id();
        format!(
            "patchbay: warning: IPVS keeps {number} connections of {server} until they expire; \
             'patchbay ipvs {id} end-connections --server {server}' ends them\n"
        )
    };
    // A server without connections.
    guest
        .ipvsadm(&format!("-a {service} -r 10.2.0.3:8001 -m"))
        .ok();
    let done = guest.ipvsadm(&format!("-d {service} -r 10.2.0.3:8001"));
    assert_eq!((done.status, done.err.as_str()), (0, ""), "{done}");

    let done = guest.ipvsadm(&format!("-d {service} -r 10.2.0.1:8001"));
    let expected = (0, "", advice(3, "10.2.0.1:8001"));
    assert_eq!((done.status, done.out.as_str(), done.err), expected);
    // Step 9 of the guide.
    let done = guest.cleanup("--orig-dst 10.2.0.1 --protonum tcp");
    let expected = (
        0,
        "0 flow entries have been deleted.\n".to_owned(),
        advice(3, "10.2.0.1"),
    );
    assert_eq!((done.status, done.out, done.err), expected);
    // The kernel drops their packets meanwhile.
    assert_eq!(field.rows(server(1)), 3);

    guest
        .ipvsadm(&format!("-d {service} -r 10.2.0.2:8001"))
        .ok();
    let before = field.state();
    let refused = field.native("end-connections --server 10.2.0.1");
    refused.assert_error(Kind::NotYet, "3 connections of other servers");
    assert_eq!(field.state(), before);
    guest
        .ipvsadm(&format!("-a {service} -r 10.2.0.2:8001 -m -w 7"))
        .ok();
    let before = field.state();
    assert_eq!(field.end("--server 10.2.0.1"), 3);
    assert_eq!(field.state(), before);
    assert_ended(&mut open, &[1]);
    let done = guest.cleanup("--orig-dst 10.2.0.1 --protonum tcp");
    assert_eq!(done.err, "");

    refuse_bad_requests(&field);
    assert_eq!(field.state(), before);
    assert_ended(&mut open, &[1]);
}

fn refuse_bad_requests(field: &Field) {
    for (words, kind, rule) in [
        (
            "end-connections --server 10.2.0.1",
            Kind::NotFound,
            "there is no server 10.2.0.1",
        ),
        (
            "drain --server 10.2.0.9",
            Kind::NotFound,
            "there is no server 10.2.0.9",
        ),
        ("end-connections", Kind::Invalid, "--server"),
        (
            "drain --server 10.2.0.2 --timeout 3601",
            Kind::Invalid,
            "0 to 3600",
        ),
    ] {
        field.native(words).assert_error(kind, rule);
    }
}

#[test]
fn drain_waits_for_active_connections() {
    let field = Field::start();
    field.0.serve(8001);
    let service = format!("-t {VIP}:8001");
    field.service(&service, "-s rr", "10.2.0.N:8001");
    let client = &field.0.clients[0];
    let mut open = client.connections(8001, 4);
    let of = |open: &mut Streams, server: u8| {
        let (its, others) = std::mem::take(open)
            .into_iter()
            .partition(|(_, n)| *n == server);
        *open = others;
        its
    };
    let first: Streams = of(&mut open, 1);
    let drain = field.spawn("drain --server 10.2.0.1 --timeout 120");
    field.wait_for_weights(&["0", "7"]);
    // New clients get the other server while it lasts.
    assert!(
        client
            .connections(8001, 4)
            .iter()
            .all(|(_, number)| *number == 2)
    );
    drop(first);
    let done = drain.wait_with_output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(field.weights(), ["0", "7"]);
    assert_eq!(field.rows(server(1)), 0);
    assert_ended(&mut open, &[]);

    // A client that stays is ended after the time.
    field
        .native("-e -t 10.1.0.254:8001 -r 10.2.0.1:8001 -m -w 7")
        .ok();
    let mut open = client.connections(8001, 4);
    let done = field
        .native("drain --server 10.2.0.1:8001 --timeout 1 --json")
        .json();
    assert_eq!(done["ended"], 2, "{done}");
    assert_ended(&mut open, &[1]);
    assert_eq!(field.weights(), ["0", "7"]);
}

#[test]
fn drain_interrupted_restores_weights() {
    let field = Field::start();
    field.0.serve(8001);
    field.service(&format!("-t {VIP}:8001"), "-s rr", "10.2.0.N:8001");
    let mut open = field.0.clients[0].connections(8001, 4);
    for signal in ["-INT", "-KILL"] {
        let mut drain = field.spawn("drain --server 10.2.0.1");
        field.wait_for_weights(&["0", "7"]);
        let pid = drain.id().to_string();
        run(Command::new("kill").args([signal, &pid]), "").ok();
        assert!(!drain.wait().unwrap().success());
        field.wait_for_weights(&["7", "7"]);
    }
    // The agent is killed, and restores them when it starts again.
    let drain = field.spawn("drain --server 10.2.0.1");
    field.wait_for_weights(&["0", "7"]);
    field.0.guest.shell("kill -9 $(pidof patchbay-agent); true");
    assert!(!drain.wait_with_output().unwrap().status.success());
    field.wait_for_weights(&["7", "7"]);
    for (stream, number) in &mut open {
        assert_eq!(ask(stream), *number);
    }
}
