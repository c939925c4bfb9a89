//! `patchbay-echo`: TCP echo server on port 7 of all addresses, for tests with real traffic.

use std::io;
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const PORT: u16 = 7;

fn main() -> ExitCode {
    // Accepts IPv4 too, unless the sysctl bindv6only is set.
    let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("patchbay-echo: could not listen on port {PORT}: {error}");
            return ExitCode::FAILURE;
        }
    };
    loop {
        match listener.accept() {
            Ok((stream, _)) => drop(thread::spawn(move || echo(&stream))),
            Err(error) => {
                eprintln!("patchbay-echo: could not accept a connection: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn echo(stream: &TcpStream) {
    // A reset by the peer is not worth a line on the console.
    let mut reader = io::BufReader::with_capacity(256 * 1024, stream);
    let _ = io::copy(&mut reader, &mut &*stream);
}
