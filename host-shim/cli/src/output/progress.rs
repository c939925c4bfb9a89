//! Progress bar of a rule file that is being sent.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str = "{bar:30} {pos} of {len} rules sent{msg}";

/// Progress bar on standard error; invisible unless that is a terminal, to keep logs of scripts
/// clean.
#[derive(Debug)]
pub(crate) struct RestoreProgress(ProgressBar);

impl RestoreProgress {
    /// Starts a bar for this number of rules.
    pub(crate) fn new(rules: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(rules as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(TEMPLATE);
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// Sets the number of rules that have been sent.
    pub(crate) fn set_sent(&self, rules: usize) {
        self.0.set_position(rules as u64);
        if self.0.length() == Some(rules as u64) {
            self.0.abandon_with_message("; the guest applies them");
        }
    }
}
