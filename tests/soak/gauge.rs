//! Samples of everything that can leak.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sys::resource::{UsageWho, getrusage};
use patchbay_tests::{AGENT_PID, Guest, patchbay, run};

/// Names of the columns, in the order of [`Gauge::values`].
pub(crate) const COLUMNS: [&str; 8] = [
    "QEMU fds",
    "QEMU kB",
    "shim peak kB",
    "agent kB",
    "agent fds",
    "agent threads",
    "guest slab kB",
    "guest free MB",
];

/// One sample of every column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauge([u64; COLUMNS.len()]);

impl Gauge {
    pub(crate) fn read(guest: &Guest) -> Self {
        let pid = guest.registered()["pid"].to_string();
        let qemu = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let shim = Command::new(std::env::current_exe().unwrap())
            .args([
                SHIM.as_ref(),
                guest.run_dir().as_os_str(),
                guest.id().as_ref(),
            ])
            .output()
            .unwrap();
        let shim = String::from_utf8(shim.stdout).unwrap();
        let agent = shell(guest, &format!("cat /proc/{AGENT_PID}/status"));
        let fds = shell(guest, &format!("ls /proc/{AGENT_PID}/fd | wc -l"));
        let memory = guest.exec("cat /proc/meminfo").ok();
        Self([
            guest.qemu_descriptors() as u64,
            field(&qemu, "VmRSS:"),
            shim.trim().parse().unwrap(),
            field(&agent, "VmRSS:"),
            fds.trim().parse().unwrap(),
            field(&agent, "Threads:"),
            field(&memory, "Slab:"),
            field(&memory, "MemAvailable:") / 1024,
        ])
    }

    pub(crate) fn values(&self) -> &[u64] {
        &self.0
    }
}

/// Argument by which this program runs a single command of patchbay: the peak memory of children is
/// reported for all of them together.
pub(crate) const SHIM: &str = "shim";

/// Saves the rules and prints the peak memory of that command in kB.
pub(crate) fn shim(run_dir: &Path, id: &str) -> ExitCode {
    let words = ["kata-ipvs", "ipvsadm", "--parameters", "-Sn", id];
    run(&mut patchbay(run_dir, &words), "").ok();
    let size = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    println!("{size}");
    ExitCode::SUCCESS
}

fn shell(guest: &Guest, script: &str) -> String {
    let words = ["exec", guest.id(), "--", "sh", "-c", script];
    guest.sandbox(&words).ok()
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name));
    let word = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    word.split_whitespace().nth(1).unwrap().parse().unwrap()
}
