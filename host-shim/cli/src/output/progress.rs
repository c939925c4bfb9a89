//! How far a rule file has gone out.

use std::fmt;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str = "{bar:30} {pos} of {len} rules sent{msg}";

/// A bar on standard error where that is a terminal; nothing elsewhere: a script's log is spared.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Of so many rules.
    pub(crate) fn of(rules: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(rules as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(TEMPLATE);
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// So many have gone out.
    pub(crate) fn sent(&self, rules: usize) {
        self.0.set_position(rules as u64);
        if self.0.length() == Some(rules as u64) {
            self.0.abandon_with_message("; the guest applies them");
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Progress").field(&self.0.position()).finish()
    }
}
