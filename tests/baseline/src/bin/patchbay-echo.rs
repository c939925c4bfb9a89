//! `patchbay-echo`: a TCP echo on port 7 of every address of the guest, for trying a card with
//! real traffic.

use std::io;
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const PORT: u16 = 7;

fn main() -> ExitCode {
    // An IPv6 socket takes IPv4 too unless the sysctl bindv6only says otherwise.
    let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("patchbay-echo: port {PORT} can't be served: {error}");
            return ExitCode::FAILURE;
        }
    };
    loop {
        match listener.accept() {
            Ok((stream, _)) => drop(thread::spawn(move || echo(&stream))),
            Err(error) => {
                eprintln!("patchbay-echo: a connection can't be accepted: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn echo(stream: &TcpStream) {
    // Ends when the peer closes or resets; neither is worth a line on the console.
    let mut reader = io::BufReader::with_capacity(256 * 1024, stream);
    let _ = io::copy(&mut reader, &mut &*stream);
}
