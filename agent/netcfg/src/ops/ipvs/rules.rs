//! How many rules there are.

use std::time::{Duration, Instant};

use patchbay_types::ipvs::MaxRules;

use super::error::Error;
use crate::ipvs::count_rules;

/// How long a count is believed. IPVS tells nobody of changes, and counting takes as long as there
/// are rules: with 20,000 ten times as long as adding one. Changes by patchbay are counted along;
/// those of other programs are seen this late, or when the limit would be reached.
const BELIEVED: Duration = Duration::from_secs(60);

/// A count of the kernel's own table: never less than there are, but for other programs' changes.
#[derive(Debug, Default)]
pub(super) struct Rules {
    counted: Option<(usize, Instant)>,
}

impl Rules {
    /// Makes sure that there may be one more, and counts it.
    pub(super) fn one_more(&mut self, max: MaxRules) -> Result<(), Error> {
        if let Some((count, at)) = self.counted
            && at.elapsed() < BELIEVED
            && max.check(count + 1).is_ok()
        {
            self.counted = Some((count + 1, at));
            return Ok(());
        }
        let count = count_rules().map_err(Error::Proc)? + 1;
        self.know(count);
        Ok(max.check(count)?)
    }

    /// Someone has counted.
    pub(super) fn know(&mut self, count: usize) {
        self.counted = Some((count, Instant::now()));
    }
}
