//! Progress of a rule file and of a drain. Invisible unless standard error is a
//! terminal, to keep logs of scripts clean.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use patchbay_host::agent::RestoreState;
use patchbay_types::ipvs::{self, DrainProgress};

const TEMPLATE: &str = "{bar:30} {pos} of {len} {msg}";

/// Progress bar on standard error.
#[derive(Debug)]
pub(crate) struct RestoreProgress(ProgressBar);

impl RestoreProgress {
    /// Starts a bar for this number of rules.
    pub(crate) fn new(rules: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(rules as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(TEMPLATE);
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar.with_message("rules sent"))
    }

    /// Returns whether standard error is a terminal.
    pub(crate) fn is_shown(&self) -> bool {
        !self.0.is_hidden()
    }

    /// Shows the state.
    pub(crate) fn set(&self, state: RestoreState) {
        match state {
            RestoreState::Sent(rules) => {
                self.0.set_position(rules as u64);
                if self.0.length() == Some(rules as u64) {
                    self.0.set_message("rules sent; the guest applies them");
                }
            }
            RestoreState::Applied(ipvs::RestoreProgress { done, total }) => {
                self.0.set_message("changes made in the guest");
                self.0.set_length(total.into());
                self.0.set_position(done.into());
            }
        }
    }

    /// Leaves the bar as it is; that of a failed restore disappears.
    pub(crate) fn finish(&self) {
        self.0.abandon();
    }
}

/// Line on standard error with the connections of the servers that are drained.
#[derive(Debug)]
pub(crate) struct DrainProgressBar {
    bar: ProgressBar,
    servers: String,
}

impl DrainProgressBar {
    /// Starts the line for these servers.
    pub(crate) fn new(servers: String) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg}");
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(format!("ending the connections of {servers}"));
        bar.tick();
        Self { bar, servers }
    }

    /// Shows the connections and the time that is left.
    pub(crate) fn set(&self, state: DrainProgress, left: Duration) {
        let DrainProgress { active, inactive } = state;
        let (servers, left) = (&self.servers, left.as_secs());
        self.bar.set_message(format!(
            "draining {servers}: {active} active and {inactive} other connections, {left} s left"
        ));
        self.bar.tick();
    }
}

impl Drop for DrainProgressBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
