//! What the guest and the programs have written, kept and read within limits: a guest that prints
//! without end fills neither the host's disk nor the launcher's memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::processes::ProcessRecord;
use crate::text::last_lines;

/// Bytes that a log may have once its sandbox is up.
const KEPT: u64 = 16 << 20;
/// Bytes of a console in which the agent's first words are looked for.
const LOOKED_AT: u64 = 1 << 20;
/// Bytes from which the last lines of a log are taken.
const TAIL: u64 = 64 << 10;

/// Keeps the files of a process from growing beyond [`KEPT`] bytes.
///
/// Only once the sandbox is up: the guest's memory, which QEMU makes at its start, is a file of that
/// size to the kernel. What doesn't fit is lost; the process goes on, since it ignores SIGXFSZ from
/// its start.
#[expect(unsafe_code, reason = "no crate that we use wraps prlimit")]
pub(super) fn limit(process: &ProcessRecord) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: KEPT,
        rlim_max: KEPT,
    };
    let pid = process.pid.cast_signed();
    // SAFETY: the kernel reads `limit`, which lives through the call; the old limit isn't asked for.
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

/// Whether this has been printed at the beginning.
pub(super) fn says(log: &Path, words: &str) -> bool {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|file| file.take(LOOKED_AT).read_to_end(&mut text));
    read.is_ok() && String::from_utf8_lossy(&text).contains(words)
}

/// The last `count` lines, made safe for a terminal; none when it can't be read.
pub(super) fn end_of(log: &Path, count: usize) -> Vec<String> {
    tail(log).map_or_else(|_| Vec::new(), |bytes| last_lines(&bytes, count))
}

fn tail(log: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn only_the_beginning_and_the_end_are_read() {
        let log = tempfile::NamedTempFile::new().unwrap();
        fs::write(log.path(), "booted\n").unwrap();
        let file = log.as_file();
        file.write_all_at(b"too late\nlast but one\nlast\n", LOOKED_AT)
            .unwrap();
        assert!(says(log.path(), "booted"));
        assert!(!says(log.path(), "too late"));
        assert_eq!(end_of(log.path(), 2), ["last but one", "last"]);
        assert!(tail(log.path()).unwrap().len() as u64 <= TAIL);
    }
}
