//! `patchbay-hammer CID PORT CONNECTIONS`: what a hostile container of the guest may do to the agent's
//! port. Connects as often as it is told to, holds the last connections open, sends bytes that mean
//! nothing, and prints how many connections it got and how many bytes came back on them.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use vsock::VsockStream;

/// Most that are held open at once.
const HELD: usize = 200;
/// How long an answer is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let numbers: Vec<u32> = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let [cid, port, connections] = numbers[..] else {
        eprintln!("patchbay-hammer takes CID PORT CONNECTIONS");
        return ExitCode::FAILURE;
    };
    let (mut connected, mut refused, mut bytes) = (0u32, 0u32, 0usize);
    let mut held = VecDeque::new();
    for _ in 0..connections {
        match VsockStream::connect_with_cid_port(cid, port) {
            Ok(mut stream) => {
                connected += 1;
                // Closed by the agent already, or not yet: either is fine.
                let _ = stream.write_all(&[0xff; 512]);
                held.push_back(stream);
            }
            Err(_) => refused += 1,
        }
        if held.len() > HELD {
            bytes += held.pop_front().map_or(0, answer);
        }
    }
    bytes += held.into_iter().map(answer).sum::<usize>();
    println!("connected {connected} refused {refused} bytes {bytes}");
    ExitCode::SUCCESS
}

/// Number of bytes that came back before the end.
fn answer(mut stream: VsockStream) -> usize {
    let mut buffer = [0; 256];
    let mut bytes = 0;
    if stream.set_read_timeout(Some(PATIENCE)).is_err() {
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
