//! Number of rules, for the limit on them.

use std::time::{Duration, Instant};

use patchbay_types::ipvs::MaxRules;

use super::error::Error;
use crate::ipvs::count_rules;

/// Lifetime of a count. IPVS has no events, and counting 20,000 rules takes ten times as long as adding
/// one. Changes by patchbay are added to the count; those of other programs are noticed after this
/// time, or when the count reaches the limit.
const LIFETIME: Duration = Duration::from_secs(60);

/// Cached number of rules; an upper bound except for changes by other programs.
#[derive(Debug, Default)]
pub(super) struct RuleCount {
    counted: Option<(usize, Instant)>,
}

impl RuleCount {
    /// Adds a rule to the count, and checks the limit.
    pub(super) fn add_one(&mut self, max: MaxRules) -> Result<(), Error> {
        if let Some((count, at)) = self.counted
            && at.elapsed() < LIFETIME
            && max.check(count + 1).is_ok()
        {
            self.counted = Some((count + 1, at));
            return Ok(());
        }
        let count = count_rules().map_err(Error::Proc)? + 1;
        self.set(count);
        Ok(max.check(count)?)
    }

    /// Stores a new count.
    pub(super) fn set(&mut self, count: usize) {
        self.counted = Some((count, Instant::now()));
    }
}
