//! Memory of a traced process.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::unistd::Pid;

/// Memory of a process, held open.
#[derive(Debug)]
pub(crate) struct Memory(File);

impl Memory {
    pub(crate) fn of(pid: Pid) -> Self {
        let mut options = File::options();
        let file = options.read(true).write(true);
        Self(file.open(format!("/proc/{pid}/mem")).unwrap())
    }

    pub(crate) fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact_at(&mut bytes, address).unwrap();
        bytes
    }

    pub(crate) fn word(&self, address: u64) -> u64 {
        u64::from_ne_bytes(self.read(address))
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        self.0.write_all_at(bytes, address).unwrap();
    }

    /// Reads a `struct timespec` or `struct timeval`, whose second part has this many parts in a second.
    pub(crate) fn nanoseconds(&self, address: u64, parts: u64) -> u64 {
        self.word(address) * SECOND + self.word(address + 8) * (SECOND / parts)
    }

    /// Writes a `struct timespec`.
    pub(crate) fn write_time(&self, address: u64, time: u64) {
        self.write(address, &(time / SECOND).to_ne_bytes());
        self.write(address + 8, &(time % SECOND).to_ne_bytes());
    }
}

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;
