//! Private parsers for the fuzz targets.

use crate::sandbox::{SandboxId, qemu_cid};

/// Returns the CID on the command line of the sandbox's QEMU.
#[must_use]
pub fn cid(line: &[u8], id: &str) -> Option<String> {
    let id: SandboxId = id.parse().ok()?;
    qemu_cid(line, &id).map(str::to_owned)
}
