//! A guest as a load balancer: two clients before it, three servers behind it, each in a network
//! namespace of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::{Card, Guest, Machine, Netns};

/// The guest's address on the clients' side.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 254);
/// Nothing here takes so long, not even in an emulated guest.
const PATIENCE: Duration = Duration::from_secs(20);

/// The guest, with everything that is wired to it.
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
    /// The guest with its cards, its clients and its servers, and no service yet.
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

    /// All three servers answer on this port, by TCP and by UDP, each with its number.
    pub fn serve(&self, port: u16) {
        for (number, netns) in (1..).zip(&self.servers) {
            let listener = netns.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
            let socket = netns.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
            let (listener, socket) = (listener.unwrap(), socket.unwrap());
            // They end with the test's process.
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

/// A namespace with the address 10.NET.0.HOST, whose way to everywhere else is the guest.
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
            // A client that is done closes, or resets.
            while matches!(stream.read(&mut question), Ok(1)) {
                if stream.write_all(&[number]).is_err() {
                    return;
                }
            }
        });
    }
}

/// A namespace that asks.
#[derive(Debug)]
pub struct Client(Netns);

impl Client {
    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.0
    }

    /// A TCP connection to the virtual service on this port.
    pub fn connect(&self, port: u16) -> TcpStream {
        let open = || TcpStream::connect_timeout(&(VIP, port).into(), PATIENCE);
        let stream = self.0.within(open).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Which server answers so many TCP connections, one after another; all stay open.
    pub fn connections(&self, port: u16, count: usize) -> Vec<(TcpStream, u8)> {
        let connection = |_| {
            let mut stream = self.connect(port);
            let number = ask(&mut stream);
            (stream, number)
        };
        (0..count).map(connection).collect()
    }

    /// Which server answers so many datagrams, each from a port of its own of this address.
    pub fn datagrams(&self, from: Ipv4Addr, port: u16, count: usize) -> Vec<u8> {
        let bind = || -> Vec<_> {
            let sockets = (0..count).map(|_| UdpSocket::bind((from, 0)).unwrap());
            sockets.collect()
        };
        // All are open before the first is used: no port comes twice.
        let sockets = self.0.within(bind);
        let ask = |socket: &UdpSocket| {
            let mut answer = [0];
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(b"who", (VIP, port)).unwrap();
            socket.recv_from(&mut answer).unwrap();
            answer[0]
        };
        sockets.iter().map(ask).collect()
    }
}

/// The number of the server at the other end.
pub fn ask(stream: &mut TcpStream) -> u8 {
    let mut answer = [0];
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut answer).unwrap();
    answer[0]
}

/// How many were answered by server 1, 2 and 3.
pub fn shares(numbers: impl IntoIterator<Item = u8>) -> [usize; 3] {
    let mut shares = [0; 3];
    for number in numbers {
        shares[usize::from(number) - 1] += 1;
    }
    shares
}
