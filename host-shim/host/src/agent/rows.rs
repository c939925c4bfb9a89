//! How much a guest may list.

use patchbay_types::failure::{Failure, Kind};

/// Most that a guest may send for a table, in bytes: half a million services.
pub(super) const TABLE: u32 = 64 << 20;
/// Most that it may take here; a row needs some ten times as much here as on its way.
const ROWS: usize = 128 << 20;

/// How much memory rows take, in bytes.
#[derive(Default)]
pub(super) struct Size(usize);

impl Size {
    /// So many bytes more.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        self.0 += bytes;
        if self.0 <= ROWS {
            return Ok(());
        }
        let sentence = "the guest lists more than is taken: 128 MiB of rows";
        Err(Failure::new(Kind::Other, sentence))
    }
}
