//! Logs of the guest and of the sandbox's programs. Size limits protect the host's disk and the
//! launcher's memory from a guest that prints endlessly.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::processes::ProcessRecord;
use crate::text::escape_lines;

/// Maximum size of a log.
const MAX_LOG_BYTES: u64 = 16 << 20;
/// Bytes at the start of a console that are searched for a message.
const MAX_SCAN_BYTES: u64 = 1 << 20;
/// Bytes at the end of a log from which the last lines are taken.
const MAX_TAIL_BYTES: u64 = 64 << 10;

/// Limits the files written by a process to [`MAX_LOG_BYTES`]. Further output is lost; the process goes
/// on, since it ignores SIGXFSZ.
///
/// Must be called after QEMU has created the guest's memory, which is a file too.
#[expect(unsafe_code, reason = "nix does not wrap prlimit")]
pub(super) fn limit(process: &ProcessRecord) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: MAX_LOG_BYTES,
        rlim_max: MAX_LOG_BYTES,
    };
    let pid = process.process.pid.cast_signed();
    // SAFETY: `limit` outlives the call, which writes nothing because the old limit is null.
    let result = unsafe {
        libc::prlimit(
            pid,
            libc::RLIMIT_FSIZE,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns whether the start of a log contains a message.
pub(super) fn contains(log: &Path, message: &str) -> bool {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|file| file.take(MAX_SCAN_BYTES).read_to_end(&mut text));
    read.is_ok() && String::from_utf8_lossy(&text).contains(message)
}

/// Returns the last `count` lines, escaped; none if the log can't be read.
pub(super) fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let text = escape_lines(&tail(log).unwrap_or_default());
    let skipped = text.lines().count().saturating_sub(count);
    text.lines().skip(skipped).map(str::to_owned).collect()
}

fn tail(log: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(MAX_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn log_is_scanned_at_start_and_end_only() {
        let log = tempfile::NamedTempFile::new().unwrap();
        fs::write(log.path(), "booted\n").unwrap();
        let file = log.as_file();
        file.write_all_at(b"too late\nlast but one\nlast\n", MAX_SCAN_BYTES)
            .unwrap();
        assert!(contains(log.path(), "booted"));
        assert!(!contains(log.path(), "too late"));
        assert_eq!(last_lines(log.path(), 2), ["last but one", "last"]);
        assert_eq!(last_lines(log.path(), 1), ["last"]);
        assert!(last_lines(Path::new("/nonexistent"), 2).is_empty());
        assert!(tail(log.path()).unwrap().len() as u64 <= MAX_TAIL_BYTES);
    }
}
