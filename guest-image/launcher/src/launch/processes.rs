//! Record of a sandbox with its processes.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patchbay_host::process::Process;
use patchbay_host::sandbox::SandboxId;
use serde::{Deserialize, Serialize};

use super::options::MachineType;
use crate::error::Error;
use crate::image::Tools;

/// Contents of `processes.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) machine: MachineType,
    /// Presence of the tools, among them the server of `exec`.
    pub(crate) tools: Tools,
    /// Network namespace of QEMU; `None`: the launcher's.
    pub(crate) netns: Option<PathBuf>,
    /// Processes of the sandbox, in the order of their start.
    pub(crate) processes: Vec<ProcessRecord>,
}

impl Record {
    /// Returns the process of this role if it runs.
    pub(crate) fn running(&self, role: ProcessRole) -> Option<&ProcessRecord> {
        let mut with_role = self.processes.iter().filter(|process| process.role == role);
        with_role.find(|process| process.is_alive())
    }
}

/// Role of a process in its sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProcessRole {
    /// `patchbay-sandbox start`, until the agent has answered.
    Launcher,
    Vsock,
    Qemu,
}

/// Process of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    pub(crate) role: ProcessRole,
    #[serde(flatten)]
    pub(crate) process: Process,
}

const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl ProcessRecord {
    /// Identifies a running process; `None` if there is none.
    pub(crate) fn of(role: ProcessRole, pid: u32) -> Option<Self> {
        Process::of(pid).map(|process| Self { role, process })
    }

    /// `true` if this process still runs. A zombie does not.
    pub(crate) fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// Waits for the end; returns `false` after `timeout`.
    pub(crate) fn wait_for_end(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL_INTERVAL);
        }
        true
    }

    /// Ends the process by SIGTERM, then SIGKILL; returns `false` if it survives both.
    pub(crate) fn end(&self) -> bool {
        for (signal, timeout_s) in [(Signal::SIGTERM, 2), (Signal::SIGKILL, 5)] {
            if !self.is_alive() {
                return true;
            }
            // If it has ended meanwhile, the wait below returns at once.
            let _ = kill(Pid::from_raw(self.process.pid.cast_signed()), signal);
            if self.wait_for_end(Duration::from_secs(timeout_s)) {
                return true;
            }
        }
        false
    }
}

/// Ends processes in the reverse order of their start.
pub(super) fn end_all<'a>(
    id: &SandboxId,
    processes: impl IntoIterator<IntoIter: DoubleEndedIterator<Item = &'a ProcessRecord>>,
) -> Result<(), Error> {
    let mut result = Ok(());
    for process in processes.into_iter().rev() {
        if !process.end() {
            let (id, pid) = (id.clone(), process.process.pid);
            result = Err(Error::Stuck { id, pid });
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn end_spares_process_with_reused_id() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let record = ProcessRecord::of(ProcessRole::Qemu, child.id()).unwrap();
        let process = Process {
            start_time: record.process.start_time - 1,
            ..record.process
        };
        let older = ProcessRecord { process, ..record };
        assert!(record.is_alive());
        assert!(older.end(), "another process with the id counts as ended");
        assert!(record.is_alive(), "the other process survives");
        assert!(record.end());
        child.wait().unwrap();
        assert!(!record.is_alive());
    }
}
