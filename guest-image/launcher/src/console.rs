//! `console`: output of the guest's console, escaped for a terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use crate::launch::folder::CONSOLE;
use crate::launch::registry::RegisteredSandbox;
use crate::text::escape_lines;

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Prints the output so far.
pub(crate) fn show(sandbox: &RegisteredSandbox, out: &mut impl Write) -> io::Result<()> {
    copy(&mut File::open(sandbox.folder.file(CONSOLE))?, out)
}

/// Prints the output until the sandbox ends.
pub(crate) fn follow(sandbox: &RegisteredSandbox, out: &mut impl Write) -> io::Result<()> {
    let mut log = File::open(sandbox.folder.file(CONSOLE))?;
    // Checked before the copy, which then gets all output of a sandbox that has ended.
    while sandbox.qemu().is_some() {
        copy(&mut log, out)?;
        thread::sleep(POLL_INTERVAL);
    }
    copy(&mut log, out)
}

fn copy(log: &mut File, out: &mut impl Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes)?;
    out.write_all(escape_lines(&bytes).as_bytes())?;
    out.flush()
}
