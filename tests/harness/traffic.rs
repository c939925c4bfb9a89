//! Traffic through a card, from the host.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::Netns;

/// Sends bytes to the echo service of the guest and receives them back. Returns the checksums of the
/// bytes sent and received.
pub fn echo(netns: &Netns, guest: SocketAddr, bytes: usize) -> ([u8; 32], [u8; 32]) {
    let stream = netns.within(|| {
        let stream = TcpStream::connect_timeout(&guest, Duration::from_secs(10)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    });
    let writer = stream.try_clone().unwrap();
    let sender = thread::spawn(move || send(writer, bytes));
    let received = receive(stream, bytes);
    (sender.join().unwrap(), received)
}

fn send(mut stream: TcpStream, bytes: usize) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        // Random bytes, which no hop can guess or compress.
        let mut chunk = vec![0; left.min(64 * 1024)];
        fastrand::fill(&mut chunk);
        stream.write_all(&chunk).unwrap();
        hash.update(&chunk);
        left -= chunk.len();
    }
    hash.finalize().into()
}

fn receive(mut stream: TcpStream, bytes: usize) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let length = stream.read(&mut chunk).unwrap();
        assert_ne!(length, 0, "the echo closed with {left} bytes to come");
        hash.update(&chunk[..length]);
        left -= length;
    }
    hash.finalize().into()
}
