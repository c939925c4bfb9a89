//! `patchbay-hammer CID PORT CONNECTIONS`: attacks the agent's port like a hostile container. Opens
//! connections, keeps the last ones open, sends garbage, and prints the number of connections, of
//! refusals and of received bytes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use vsock::VsockStream;

/// Maximum number of open connections.
const MAX_OPEN: usize = 200;
const READ_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let numbers: Vec<u32> = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let [cid, port, connections] = numbers[..] else {
        eprintln!("usage: patchbay-hammer CID PORT CONNECTIONS");
        return ExitCode::FAILURE;
    };
    let (mut connected, mut refused, mut bytes) = (0u32, 0u32, 0usize);
    let mut open = VecDeque::new();
    for _ in 0..connections {
        match VsockStream::connect_with_cid_port(cid, port) {
            Ok(mut stream) => {
                connected += 1;
                // Fails if the agent has closed the connection already.
                let _ = stream.write_all(&[0xff; 512]);
                open.push_back(stream);
            }
            Err(_) => refused += 1,
        }
        if open.len() > MAX_OPEN {
            bytes += open.pop_front().map_or(0, drain);
        }
    }
    bytes += open.into_iter().map(drain).sum::<usize>();
    println!("connected {connected} refused {refused} bytes {bytes}");
    ExitCode::SUCCESS
}

/// Reads until the end or the timeout; returns the number of bytes.
fn drain(mut stream: VsockStream) -> usize {
    let mut buffer = [0; 256];
    let mut bytes = 0;
    if stream.set_read_timeout(Some(READ_TIMEOUT)).is_err() {
        return 0;
    }
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return bytes,
            Ok(length) => bytes += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return bytes,
        }
    }
}
