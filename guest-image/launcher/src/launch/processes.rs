//! Record of a sandbox with its processes, identified beyond the reuse of process ids.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::options::MachineType;
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
    pub(crate) fn is_alive(&self) -> bool {
        self.processes.iter().any(ProcessRecord::is_alive)
    }

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

/// Identity of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    pub(crate) role: ProcessRole,
    pub(crate) pid: u32,
    /// Start time in clock ticks since boot; unique together with the process id.
    pub(crate) start_time: u64,
}

const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl ProcessRecord {
    /// Identifies a running process; `None` if there is none.
    pub(crate) fn of(role: ProcessRole, pid: u32) -> Option<Self> {
        start_time_of(pid).map(|start_time| Self {
            role,
            pid,
            start_time,
        })
    }

    /// `true` if this process still runs. A zombie does not.
    pub(crate) fn is_alive(&self) -> bool {
        start_time_of(self.pid) == Some(self.start_time)
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
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), signal);
            if self.wait_for_end(Duration::from_secs(timeout_s)) {
                return true;
            }
        }
        false
    }
}

fn start_time_of(pid: u32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads the start time from `/proc/PID/stat`; `None` for a zombie.
fn parse_stat(stat: &str) -> Option<u64> {
    // The name, in parentheses, can contain parentheses and spaces.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    // Numbered from 1 in proc(5), the state is field 3 and the start time field 22.
    let start_time = fields.nth(18)?;
    (!matches!(state, "Z" | "X")).then(|| start_time.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn stat(state: char) -> String {
        format!("12 (a) b) {state} 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 100 20")
    }

    #[test]
    fn stat_with_parentheses_in_name_is_parsed() {
        assert_eq!(parse_stat(&stat('S')), Some(987));
    }

    #[test]
    fn stat_of_zombie_has_no_start_time() {
        assert_eq!(parse_stat(&stat('Z')), None);
        assert_eq!(parse_stat("12 (cat"), None);
    }

    #[test]
    fn end_spares_process_with_reused_id() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let record = ProcessRecord::of(ProcessRole::Qemu, child.id()).unwrap();
        let older = ProcessRecord {
            start_time: record.start_time - 1,
            ..record
        };
        assert!(record.is_alive());
        assert!(older.end(), "another process with the id counts as ended");
        assert!(record.is_alive(), "the other process survives");
        assert!(record.end());
        child.wait().unwrap();
        assert!(!record.is_alive());
    }
}
