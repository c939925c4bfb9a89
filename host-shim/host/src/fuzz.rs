//! Private parsers, opened to the fuzz targets.

use crate::sandbox::{Id, qemu_cid};

/// The CID on the command line of a machine.
#[must_use]
pub fn cid(line: &[u8], id: &str) -> Option<String> {
    let id = Id::parse(id).ok()?;
    qemu_cid(line, &id).map(str::to_owned)
}
