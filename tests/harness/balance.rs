//! A guest as a load balancer between two clients and three servers, each in a separate network
//! namespace.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::{Card, Guest, Machine, Netns};

/// Address of the guest on the clients' side.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 254);
/// IPv6 address of the guest on the clients' side, after [`Balancer::add_ipv6`].
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xfe);
/// Longer than anything here takes, even in an emulated guest.
const IO_TIMEOUT: Duration = Duration::from_secs(20);

/// The guest with its clients and servers.
#[derive(Debug)]
pub struct Balancer {
    /// Forwards between its cards `front` and `back`.
    pub guest: Guest,
    /// 10.1.0.1 and 10.1.0.2.
    pub clients: [Client; 2],
    /// 10.2.0.1 to 10.2.0.3: server 1 to 3.
    servers: [Netns; 3],
}

impl Balancer {
    /// Starts the guest with its cards, clients and servers, without a virtual service.
    pub fn start() -> Self {
        let guest = Guest::start(Machine::Q35);
        let side = |name: &str, net: u8| {
            let card = Card::named(name)
                .mac(&format!("02:00:00:00:00:0{net}"))
                .address(&format!("10.{net}.0.254/24"));
            guest.plug(&card).ok();
            guest
                .netns()
                .ip(&format!("link add br-{name} type bridge"))
                .ok();
            let port = format!("link set tap-{name} master br-{name}");
            guest.netns().ip(&port).ok();
            guest.netns().ip(&format!("link set br-{name} up")).ok();
        };
        side("front", 1);
        side("back", 2);
        guest.exec("sysctl -w net.ipv4.ip_forward=1").ok();
        let clients = [1, 2].map(|host| Client(wire(&guest, "front", 1, host)));
        let servers = [1, 2, 3].map(|host| wire(&guest, "back", 2, host));
        Self {
            guest,
            clients,
            servers,
        }
    }

    /// Adds IPv6: the clients are `fd00:1::1` and `fd00:1::2`, the servers `fd00:2::1` to `fd00:2::3`.
    pub fn add_ipv6(&self) {
        for (side, net) in [("front", 1), ("back", 2)] {
            let add = format!("ip addr add fd00:{net}::fe/64 dev {side} nodad");
            self.guest.exec(&add).ok();
        }
        let forward = "sysctl -w net.ipv6.conf.all.forwarding=1";
        self.guest.exec(forward).ok();
        let clients = self.clients.iter().map(|client| &client.0).zip(1..);
        let clients = clients.map(|(netns, host)| (netns, 1, host));
        let servers = self.servers.iter().zip(1..);
        let servers = servers.map(|(netns, host)| (netns, 2, host));
        for (netns, net, host) in clients.chain(servers) {
            let add = format!("addr add fd00:{net}::{host}/64 dev eth0 nodad");
            netns.ip(&add).ok();
            netns
                .ip(&format!("route add default via fd00:{net}::fe"))
                .ok();
        }
    }

    /// Has all three servers answer on this TCP and UDP port, each with its number.
    pub fn serve(&self, port: u16) {
        for (number, netns) in (1..).zip(&self.servers) {
            let listener = netns.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
            let socket = netns.within(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)));
            let (listener, socket) = (listener.unwrap(), socket.unwrap());
            // These threads run until the test's process exits.
            thread::spawn(move || accept(&listener, number));
            thread::spawn(move || {
                let mut question = [0; 16];
                while let Ok((_, from)) = socket.recv_from(&mut question) {
                    socket.send_to(&[number], from).unwrap();
                }
            });
        }
    }
}

/// Creates a namespace with the address 10.NET.0.HOST and a default route through the guest.
fn wire(guest: &Guest, side: &str, net: u8, host: u8) -> Netns {
    let (netns, middle) = (Netns::new(), guest.netns());
    let (port, peer) = (format!("{side}{host}"), netns.name());
    middle
        .ip(&format!(
            "link add {port} type veth peer name eth0 netns {peer}"
        ))
        .ok();
    middle
        .ip(&format!("link set {port} master br-{side} up"))
        .ok();
    netns
        .ip(&format!("addr add 10.{net}.0.{host}/24 dev eth0"))
        .ok();
    netns.ip("link set eth0 up").ok();
    netns
        .ip(&format!("route add default via 10.{net}.0.254"))
        .ok();
    netns
}

fn accept(listener: &TcpListener, number: u8) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        thread::spawn(move || {
            let mut question = [0];
            // A client ends the connection by FIN or RST.
            while matches!(stream.read(&mut question), Ok(1)) {
                if stream.write_all(&[number]).is_err() {
                    return;
                }
            }
        });
    }
}

/// A namespace that opens connections to the virtual service.
#[derive(Debug)]
pub struct Client(Netns);

impl Client {
    /// Returns the namespace.
    pub fn netns(&self) -> &Netns {
        &self.0
    }

    /// Opens a TCP connection to the virtual service on this port.
    pub fn connect(&self, port: u16) -> TcpStream {
        self.connect_to((VIP, port).into())
    }

    /// Opens a TCP connection.
    pub fn connect_to(&self, to: SocketAddr) -> TcpStream {
        let open = || TcpStream::connect_timeout(&to, IO_TIMEOUT);
        let stream = self.0.within(open).unwrap();
        stream.set_read_timeout(Some(IO_TIMEOUT)).unwrap();
        stream
    }

    /// Opens TCP connections one after another; returns each with the number of its server.
    pub fn connections(&self, port: u16, count: usize) -> Vec<(TcpStream, u8)> {
        self.connections_to((VIP, port).into(), count)
    }

    /// Opens connections to an address; returns each with the number of its server.
    pub fn connections_to(&self, to: SocketAddr, count: usize) -> Vec<(TcpStream, u8)> {
        let connection = |_| {
            let mut stream = self.connect_to(to);
            let number = ask(&mut stream);
            (stream, number)
        };
        (0..count).map(connection).collect()
    }

    /// Sends datagrams, each from a different port of this address; returns the numbers of the
    /// servers that answer.
    pub fn datagrams(&self, from: Ipv4Addr, port: u16, count: usize) -> Vec<u8> {
        self.datagrams_to(from.into(), (VIP, port).into(), count)
    }

    /// Sends datagrams to an address, each from a different port.
    pub fn datagrams_to(&self, from: IpAddr, to: SocketAddr, count: usize) -> Vec<u8> {
        let bind = || -> Vec<_> {
            let sockets = (0..count).map(|_| UdpSocket::bind((from, 0)).unwrap());
            sockets.collect()
        };
        // Opens all before the first is used, so that no port repeats.
        let sockets = self.0.within(bind);
        let ask = |socket: &UdpSocket| {
            let mut answer = [0];
            socket.set_read_timeout(Some(IO_TIMEOUT)).unwrap();
            socket.send_to(b"who", to).unwrap();
            socket.recv_from(&mut answer).unwrap();
            answer[0]
        };
        sockets.iter().map(ask).collect()
    }
}

/// Asks the server at the other end for its number.
pub fn ask(stream: &mut TcpStream) -> u8 {
    let mut answer = [0];
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut answer).unwrap();
    answer[0]
}

/// Counts the answers of servers 1, 2 and 3.
pub fn shares(numbers: impl IntoIterator<Item = u8>) -> [usize; 3] {
    let mut shares = [0; 3];
    for number in numbers {
        shares[usize::from(number) - 1] += 1;
    }
    shares
}
