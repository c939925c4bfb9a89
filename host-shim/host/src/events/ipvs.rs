//! Changes of the IPVS table of a guest, whose kernel reports none: the table is listed at an interval, and
//! compared with the one before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::Table;

use super::{Closed, EventKind, Sender};
use crate::ops;
use crate::sandbox::Sandbox;

/// Comparison of the tables of a sandbox.
pub(super) struct Poller {
    pub(super) sandbox: Sandbox,
    pub(super) sender: Sender,
    /// The sandbox has ended.
    pub(super) is_gone: Arc<AtomicBool>,
    pub(super) interval: Duration,
}

impl Poller {
    /// Compares tables until the sandbox has ended, or has an agent without them. The listener reports an agent that
    /// can't be reached.
    pub(super) fn run(self) {
        let mut before: Option<Table> = None;
        while !self.is_gone.load(Ordering::Relaxed) {
            match self.read() {
                Ok(now) => {
                    let reported = before.as_ref().map_or(Ok(()), |old| self.report(old, &now));
                    if reported.is_err() {
                        return;
                    }
                    before = Some(now);
                }
                Err(failure) if failure.kind() == Kind::Unsupported => {
                    let (id, line) = (&self.sandbox.id, failure.line());
                    tracing::warn!("changes of IPVS in {id} are left out: {line}");
                    return;
                }
                Err(failure) => tracing::debug!("could not list IPVS: {}", failure.line()),
            }
            thread::sleep(self.interval);
        }
    }

    /// Reads the table without loading a module in the guest.
    fn read(&self) -> Result<Table, Failure> {
        let agent = ops::connect(&self.sandbox)?.into_patchbay()?;
        let settings = agent.loaded_settings()?.unwrap_or_default();
        if settings.has_ipvs() {
            agent.ipvs_rules()
        } else {
            Ok(Table::default())
        }
    }

    fn report(&self, before: &Table, now: &Table) -> Result<(), Closed> {
        let mut changes = before.diff(now).map(|(change, _)| change);
        changes.try_for_each(|change| self.sender.send(EventKind::Ipvs(change)))
    }
}
