//! Identity of processes beyond the reuse of process ids.

use std::fs;

use serde::{Deserialize, Serialize};

/// Identity of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot; unique together with the process id.
    pub start_time: u64,
}

impl Process {
    /// Identifies a running process; `None` if there is none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let start_time = parse_stat(&stat)?;
        Some(Self { pid, start_time })
    }

    /// Identifies this process; `None` without `/proc`.
    #[must_use]
    pub fn current() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// `true` if this process still runs. A zombie does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }
}

/// Reads the start time from `/proc/PID/stat`; `None` for a zombie.
fn parse_stat(stat: &str) -> Option<u64> {
    // The name, in parentheses, can contain parentheses and spaces.
    let (_, rest) = stat.rsplit_once(") ")?;
    // In proc(5) the state is field 3, the number of threads field 20 and the start time field 22.
    let fields: Vec<&str> = rest.split(' ').collect();
    let (state, threads, start_time) = (fields.first()?, fields.get(17)?, fields.get(19)?);
    // The main thread can be a zombie while others still run, with all files open.
    let has_ended = matches!(*state, "Z" | "X") && matches!(*threads, "0" | "1");
    (!has_ended).then(|| start_time.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(state: char, threads: u32) -> String {
        format!("12 (a) b) {state} 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 987 100 20")
    }

    #[test]
    fn stat_with_parentheses_in_name_is_parsed() {
        assert_eq!(parse_stat(&stat('S', 1)), Some(987));
    }

    #[test]
    fn stat_of_zombie_has_no_start_time() {
        assert_eq!(parse_stat(&stat('Z', 1)), None);
        assert_eq!(parse_stat(&stat('Z', 2)), Some(987));
        assert_eq!(parse_stat("12 (cat"), None);
    }

    #[test]
    fn process_with_reused_id_is_not_alive() {
        let process = Process::current().unwrap();
        let earlier = Process {
            start_time: process.start_time - 1,
            ..process
        };
        assert!(process.is_alive());
        assert!(!earlier.is_alive());
    }
}
