//! Traffic through a card.

use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::{Guest, Netns, bin};

/// Limit for a read or write.
const LIMIT: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const CHUNK: usize = 64 * 1024;

/// Sends bytes to the echo service of the guest and receives them back. Returns the checksums of the
/// bytes sent and received.
pub fn echo(netns: &Netns, guest: SocketAddr, bytes: usize) -> ([u8; 32], [u8; 32]) {
    both_ways(&connect(netns, guest), bytes, bytes)
}

/// Sends bytes to an echo service and receives them back, as fast as possible.
pub fn pump(netns: &Netns, server: SocketAddr, bytes: usize) {
    let stream = connect(netns, server);
    thread::scope(|scope| {
        scope.spawn(|| {
            let zeros = io::repeat(0).take(bytes as u64);
            io::copy(&mut BufReader::with_capacity(CHUNK, zeros), &mut &stream).unwrap()
        });
        let mut chunk = vec![0; CHUNK];
        let mut left = bytes;
        while left > 0 {
            let length = (&stream).read(&mut chunk).unwrap();
            assert_ne!(length, 0, "the echo closed with {left} bytes to come");
            left -= length;
        }
    });
}

/// Sends a byte to an echo service and waits for it, this many times.
pub fn round_trips(netns: &Netns, server: SocketAddr, count: u32) {
    let mut stream = connect(netns, server);
    stream.set_nodelay(true).unwrap();
    for _ in 0..count {
        stream.write_all(&[0]).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
}

fn connect(netns: &Netns, server: SocketAddr) -> TcpStream {
    netns.within(|| limited(TcpStream::connect_timeout(&server, CONNECT_LIMIT).unwrap()))
}

/// Sends and receives this many bytes at the same time. Returns the checksums of both.
fn both_ways(stream: &TcpStream, to_send: usize, to_receive: usize) -> ([u8; 32], [u8; 32]) {
    thread::scope(|scope| {
        let sender = scope.spawn(|| send(stream, to_send));
        let received = receive(stream, to_receive);
        (sender.join().unwrap(), received)
    })
}

/// Lets the guest connect to a server in a namespace. Both send at least this many bytes at the same time;
/// asserts that both receive what the other has sent.
#[track_caller]
pub fn exchange(netns: &Netns, guest: &Guest, server: IpAddr, bytes: usize) {
    let listener = netns.within(|| TcpListener::bind((server, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    // The guest sends one of its files several times.
    let size = std::fs::metadata(bin("patchbay-agent")).unwrap().len();
    let size = usize::try_from(size).unwrap();
    let times = bytes.div_ceil(size);
    let script = format!(
        "send() {{ for time in $(seq {times}); do cat /bin/patchbay-agent; done; }}; \
         send | sha256sum; send | nc -w 60 {server} {port} | sha256sum"
    );
    let (sent, received, inside) = thread::scope(|scope| {
        let inside = scope.spawn(|| guest.shell(&script));
        let stream = limited(accept(&listener));
        let (sent, received) = both_ways(&stream, bytes, size * times);
        // Busybox's nc exits at the end of what it receives.
        stream.shutdown(Shutdown::Write).unwrap();
        (sent, received, inside.join().unwrap())
    });
    let sums = [received, sent].map(|sum| {
        let digits = sum.iter().map(|byte| format!("{byte:02x}"));
        format!("{}  -\n", digits.collect::<String>())
    });
    assert_eq!(inside.ok(), sums.concat());
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            return stream;
        }
        assert!(Instant::now() < deadline, "the guest does not connect");
        thread::sleep(Duration::from_millis(10));
    }
}

fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

fn send(mut stream: &TcpStream, bytes: usize) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        // Random bytes, which no hop can guess or compress.
        let mut chunk = vec![0; left.min(CHUNK)];
        fastrand::fill(&mut chunk);
        stream.write_all(&chunk).unwrap();
        hash.update(&chunk);
        left -= chunk.len();
    }
    hash.finalize().into()
}

fn receive(mut stream: &TcpStream, bytes: usize) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let length = stream.read(&mut chunk).unwrap();
        assert_ne!(length, 0, "the echo closed with {left} bytes to come");
        hash.update(&chunk[..length]);
        left -= length;
    }
    hash.finalize().into()
}
