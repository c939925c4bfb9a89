//! `patchbay-execd`: runs commands in the guest for the host, over vsock. It gives root access, so only
//! images with tools have it, and it serves the host alone.

mod child;
mod session;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use patchbay_init::EXEC_PORT;
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockListener};

fn main() -> ExitCode {
    let listener = match VsockListener::bind_with_cid_port(VMADDR_CID_ANY, EXEC_PORT) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("patchbay-execd: could not listen on vsock port {EXEC_PORT}: {error}");
            return ExitCode::FAILURE;
        }
    };
    loop {
        match listener.accept() {
            Ok((stream, peer)) if peer.cid() == VMADDR_CID_HOST => {
                thread::spawn(move || {
                    if let Err(error) = session::serve(&stream) {
                        eprintln!("patchbay-execd: {error}");
                    }
                });
            }
            Ok((_, peer)) => {
                eprintln!("patchbay-execd: rejected the peer with CID {}", peer.cid());
            }
            Err(error) => {
                eprintln!("patchbay-execd: could not accept a connection: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}
