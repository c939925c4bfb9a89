//! Durations of commands: counters in a file of the run directory, which `metrics` reads.
//!
//! A command ends before anything could query it, so it adds its duration to the file that all commands share.
//! A lost count is acceptable: a command never fails because of it, and waits for a few milliseconds at most.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use patchbay_host::sandbox::check_trusted;
use patchbay_host::{file_lock, private};

/// Name in the run directory; sandboxes can't have it.
const FILE: &str = ".durations";
/// Begin of the file, with the version of its layout.
const HEADER: [u8; 16] = *b"patchbay times 1";
/// Size of the key of a row: the result, and the name of the command, padded with zeros.
const KEY_BYTES: usize = 32;
const ROW_BYTES: usize = KEY_BYTES + (BUCKETS + 1) * 8;
/// More rows than there are commands and results.
const MAX_ROWS: usize = 256;
const MAX_BYTES: u64 = 1 << 16;
/// Longest wait for the lock, which others hold for some microseconds.
const LOCK_TIMEOUT: Duration = Duration::from_millis(5);

/// Upper bounds of the buckets in seconds; the last bucket has none.
pub(crate) const BOUNDS: [f64; BUCKETS - 1] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];
const BUCKETS: usize = 14;

/// Commands that last until something happens, or that print what the program itself has.
const NOT_COUNTED: [&str; 7] = [
    "completions",
    "exporter",
    "man",
    "metrics",
    "monitor",
    "wait",
    "watch",
];

/// Result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandResult {
    Success,
    Failure,
}

impl CommandResult {
    const ALL: [Self; 2] = [Self::Success, Self::Failure];

    /// Returns the value of a label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }

    /// Returns the first byte of a row.
    fn mark(self) -> u8 {
        match self {
            Self::Success => b'+',
            Self::Failure => b'-',
        }
    }
}

/// Durations of one command with one result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Durations {
    /// Name with that of the sub-command.
    pub(crate) command: String,
    pub(crate) result: CommandResult,
    /// Number of commands for each bucket.
    pub(crate) counts: [u64; BUCKETS],
    /// Sum of the durations in microseconds.
    pub(crate) micros: u64,
}

impl Durations {
    /// Returns the empty row of a command; `None` for one that is not counted.
    fn of(command: &str, result: CommandResult) -> Option<Self> {
        let is_counted = !NOT_COUNTED.contains(&command);
        (is_counted && is_name(command)).then(|| Self {
            command: command.to_owned(),
            result,
            counts: [0; BUCKETS],
            micros: 0,
        })
    }

    fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound);
        let count = &mut self.counts[bucket.unwrap_or(BOUNDS.len())];
        *count = count.saturating_add(1);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.micros = self.micros.saturating_add(micros);
    }

    fn pack(&self) -> Vec<u8> {
        let mut row = vec![self.result.mark()];
        row.extend_from_slice(self.command.as_bytes());
        row.resize(KEY_BYTES, 0);
        for number in self.counts.iter().chain([&self.micros]) {
            row.extend_from_slice(&number.to_le_bytes());
        }
        row
    }

    /// Reads a row; `None` for one that no command has written.
    fn unpack(row: &[u8]) -> Option<Self> {
        let (key, numbers) = row.split_at_checked(KEY_BYTES)?;
        let (mark, name) = key.split_first()?;
        let mut results = CommandResult::ALL.into_iter();
        let result = results.find(|result| result.mark() == *mark)?;
        let name = std::str::from_utf8(name).ok()?.trim_end_matches('\0');
        let mut durations = Self::of(name, result)?;
        let (numbers, rest) = numbers.as_chunks::<8>();
        let (micros, counts) = numbers.split_last()?;
        if !rest.is_empty() || counts.len() != BUCKETS {
            return None;
        }
        for (count, bytes) in durations.counts.iter_mut().zip(counts) {
            *count = u64::from_le_bytes(*bytes);
        }
        // Their sum is computed for metrics.
        let mut counts = durations.counts.iter();
        counts.try_fold(0_u64, |sum, count| sum.checked_add(*count))?;
        durations.micros = u64::from_le_bytes(*micros);
        Some(durations)
    }
}

fn is_name(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte == b'-' || byte == b' ';
    !text.is_empty() && text.len() < KEY_BYTES && text.bytes().all(is_legal)
}

fn add(run_dir: &Path, empty: Durations, duration: Duration) -> io::Result<()> {
    if !run_dir.is_dir() || check_trusted(run_dir).is_err() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut file = open_locked(run_dir)?;
    let rows = read_rows(&mut file)?;
    if rows.is_none() {
        // A new file, or one of another layout.
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&HEADER)?;
    }
    let mut rows = rows.unwrap_or_default();
    let is_same = |row: &Durations| (&row.command, row.result) == (&empty.command, empty.result);
    let index = rows.iter().position(is_same).unwrap_or_else(|| {
        rows.push(empty);
        rows.len() - 1
    });
    if index >= MAX_ROWS {
        return Err(io::ErrorKind::StorageFull.into());
    }
    rows[index].add(duration);
    let offset = HEADER.len() + index * ROW_BYTES;
    file.seek(SeekFrom::Start(offset as u64))?;
    file.write_all(&rows[index].pack())
}

/// Reads the durations of all commands; none from a file that can't be read.
pub(crate) fn read(run_dir: &Path) -> Vec<Durations> {
    if !run_dir.join(FILE).exists() || check_trusted(run_dir).is_err() {
        return Vec::new();
    }
    let rows = open_locked(run_dir).and_then(|mut file| read_rows(&mut file));
    let rows = rows.unwrap_or_else(|error| {
        tracing::warn!("the durations of commands are left out: {error}");
        None
    });
    rows.unwrap_or_default()
}

/// Opens the file, and locks it until it is closed.
fn open_locked(run_dir: &Path) -> io::Result<Flock<File>> {
    let file = private::open_file(&run_dir.join(FILE))?;
    file_lock::take(file, LOCK_TIMEOUT, file_lock::sleep)
}

/// Reads the rows up to the first one that no command has written; `None` from a file of another layout.
fn read_rows(file: &mut File) -> io::Result<Option<Vec<Durations>>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let rows = bytes.strip_prefix(&HEADER);
    Ok(rows.map(|rows| {
        rows.chunks(ROW_BYTES)
            .map_while(Durations::unpack)
            .collect()
    }))
}

/// Clock of a command.
#[derive(Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Adds the time since the start to the durations of the command.
    pub(crate) fn stop(&self, run_dir: &Path, command: &str, result: CommandResult) {
        let Some(empty) = Durations::of(command, result) else {
            return;
        };
        if let Err(error) = add(run_dir, empty, self.0.elapsed()) {
            tracing::debug!("the duration is not counted: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
