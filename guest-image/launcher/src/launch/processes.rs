//! The processes of a sandbox, told apart from strangers that got the same id later.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// What a process does for the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// `patchbay-sandbox start`, until the agent answers.
    Launcher,
    /// The vsock daemon.
    Vsock,
    /// QEMU.
    Qemu,
}

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// What it does.
    pub role: Role,
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since the machine's boot: with the id unique.
    pub start_time: u64,
}

const POLL: Duration = Duration::from_millis(10);

impl ProcessRecord {
    /// Records a process that runs now; `None` when it doesn't.
    #[must_use]
    pub fn of(role: Role, pid: u32) -> Option<Self> {
        let start_time = start_time_of(pid)?;
        Some(Self {
            role,
            pid,
            start_time,
        })
    }

    /// Whether this very process still runs. A zombie doesn't.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        start_time_of(self.pid) == Some(self.start_time)
    }

    /// Waits for the end, at most `timeout`; whether it came.
    #[must_use]
    pub fn wait_for_end(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// Ends the process: asks, waits, forces. Whether it has ended.
    #[must_use]
    pub fn end(&self) -> bool {
        for (signal, patience) in [(Signal::SIGTERM, 2), (Signal::SIGKILL, 5)] {
            if !self.is_alive() {
                return true;
            }
            // Fails only when it ended meanwhile or isn't ours to end; the wait tells.
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), signal);
            if self.wait_for_end(Duration::from_secs(patience)) {
                return true;
            }
        }
        false
    }
}

fn start_time_of(pid: u32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The start time in `/proc/PID/stat`, unless the process is a zombie or dead.
fn parse_stat(stat: &str) -> Option<u64> {
    // The name, in parentheses, can hold anything, parentheses and spaces included.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    // proc(5) counts from 1: the state is field 3, the start time field 22.
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
    fn start_time_is_field_22_whatever_the_name() {
        assert_eq!(parse_stat(&stat('S')), Some(987));
    }

    #[test]
    fn zombie_is_not_alive() {
        assert_eq!(parse_stat(&stat('Z')), None);
        assert_eq!(parse_stat("12 (cat"), None);
    }

    #[test]
    fn process_ends_once_and_a_later_one_is_another() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let record = ProcessRecord::of(Role::Qemu, child.id()).unwrap();
        let older = ProcessRecord {
            start_time: record.start_time - 1,
            ..record
        };
        assert!(record.is_alive());
        assert!(older.end(), "a stranger with the id counts as ended");
        assert!(record.is_alive(), "and is not touched");
        assert!(record.end());
        child.wait().unwrap();
        assert!(!record.is_alive());
    }
}
