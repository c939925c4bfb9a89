//! Chooses the vsock transport of a new guest.

use std::fs::OpenOptions;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;

use patchbay_host::vsock_stream;
use patchbay_types::endpoint::{DEFAULT_PORT, Endpoint};

/// Program that replaces the kernel's vhost-vsock.
pub(super) const DAEMON: &str = vsock_stream::VSOCK_PROXY;
pub(super) const INSTALL_DAEMON: &str = "cargo install --locked vhost-device-vsock";

/// Returns the address for the agent of a new sandbox: the kernel's vsock if its device can be opened,
/// else hybrid vsock over the daemon's `socket`.
pub(super) fn choose(socket: &Path) -> Endpoint {
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

/// Returns a random CID: the host's CIDs have no allocator.
fn random_cid() -> u32 {
    let random = RandomState::new().build_hasher().finish();
    // 0 to 2 and the highest are reserved.
    let offset = random % u64::from(u32::MAX - 3);
    u32::try_from(offset).unwrap_or_default() + 3
}
