//! `patchbay-init`: process 1 of the sandbox image. It mounts file systems, loads modules, brings the
//! loopback link up, and keeps the agent running.
//!
//! The kernel panics when process 1 ends, so errors are printed on the console and never fatal.

mod agent_sockets;
mod mounts;
mod services;

use std::io::{self, Write as _};

use agent_sockets::AgentSockets;
use patchbay_init::BOOT_MODULES;
use patchbay_netcfg::modules::Modules;
use patchbay_netcfg::rtnl::link::{self, SetLink};
use patchbay_netlink::{Batch, Error, RecvBuffer, Socket, Transport as _};
use patchbay_types::AdminState;

/// Index of `lo` in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

fn main() {
    mounts::mount_all();
    let modules = Modules::default();
    for name in BOOT_MODULES {
        if let Err(error) = modules.load(name) {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            print(&format!("{error}: {}", cause.unwrap_or_default()));
        }
    }
    if let Err(error) = bring_loopback_up() {
        print(&format!("could not bring lo up: {error}"));
    }
    services::Supervisor::of_image(AgentSockets::hold()).run()
}

/// Sets `IFF_UP` on `lo`: IPVS accepts no server address while it is down.
fn bring_loopback_up() -> Result<(), Error> {
    let mut batch = Batch::default();
    link::change(&mut batch, LOOPBACK_INDEX, &SetLink::State(AdminState::Up));
    let refused = Socket::open(RecvBuffer::Small)?.send(&batch)?;
    match refused.into_iter().next() {
        Some((_, error)) => Err(Error::Refused(error)),
        None => Ok(()),
    }
}

/// Prints a line on the console.
fn print(message: &str) {
    // `eprintln!` panics when the console fails, which would end process 1.
    let _ = writeln!(io::stderr(), "patchbay-init: {message}");
}
