//! `console`: output of the guest's console, escaped for a terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use crate::launch::registry::RegisteredSandbox;
use crate::text::escape_lines;

/// Behavior at the end of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Wait for more until the sandbox ends.
    Yes,
    /// Return.
    No,
}

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Prints the console of a sandbox.
pub fn show(sandbox: &RegisteredSandbox, follow: Follow, out: &mut impl Write) -> io::Result<()> {
    let mut log = File::open(sandbox.folder.console())?;
    loop {
        // Checked before the read, which then gets all output of a sandbox that has ended.
        let running = sandbox.qemu().is_some();
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        out.write_all(escape_lines(&bytes).as_bytes())?;
        out.flush()?;
        if follow == Follow::No || !running {
            return Ok(());
        }
        thread::sleep(POLL_INTERVAL);
    }
}
