//! Network namespace of a card's TAP, which can be gone by the time that the card is unplugged.

use std::path::Path;

use patchbay_types::failure::{Failure, Kind};

use crate::netns::Netns;
use crate::sandbox::CardRecord;

/// Opens the namespace in which a card's TAP was opened; `None` if it was deleted, or if its name
/// leads to another one, in which a device of the same name or index is not the card's. Records of
/// release 0.1.0 lack the path, which is that of the sandbox, and those of 0.2.0 the identity.
pub(super) fn open(
    record: Option<&CardRecord>,
    sandbox: Option<&Path>,
) -> Result<Option<Netns>, Failure> {
    let path = record.and_then(|record| record.netns.as_deref());
    let netns = match Netns::open_or_current(path.or(sandbox)) {
        // Of a deleted name, `ip netns` can leave the file on which the namespace was mounted.
        Err(failure) if matches!(failure.kind(), Kind::NotFound | Kind::Invalid) => {
            return Ok(None);
        }
        netns => netns?,
    };
    let recorded = record.and_then(|record| record.netns_id);
    Ok(Some(netns).filter(|netns| recorded.is_none_or(|recorded| recorded == netns.id())))
}
