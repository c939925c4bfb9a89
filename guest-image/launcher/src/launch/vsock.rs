//! Which way this host has to reach a new guest over vsock.

use std::fs::OpenOptions;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;

use patchbay_types::endpoint::DEFAULT_PORT;
use patchbay_types::endpoint::Endpoint;

/// The program that stands in for the kernel's vhost-vsock.
pub const DAEMON: &str = "vhost-device-vsock";

/// Where the agent of a new sandbox will be: behind the kernel's device when it opens, else behind
/// the daemon's `socket`.
#[must_use]
pub fn choose(socket: &Path) -> Endpoint {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/vhost-vsock");
    let port = DEFAULT_PORT;
    match device {
        Ok(_) => Endpoint::Vsock {
            cid: random_cid(),
            port,
        },
        Err(_) => Endpoint::Hybrid {
            path: socket.to_owned(),
            port,
        },
    }
}

/// CIDs are shared by the whole host, and nobody hands them out: chance avoids the others.
fn random_cid() -> u32 {
    let random = RandomState::new().build_hasher().finish();
    // 0 to 2 and the highest are taken by the kernel.
    let offset = random % u64::from(u32::MAX - 3);
    u32::try_from(offset).unwrap_or_default() + 3
}
