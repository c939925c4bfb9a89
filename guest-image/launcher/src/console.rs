//! `console`: what a sandbox's guest has printed, made safe for a terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use crate::launch::registry::Sandbox;
use crate::text::escaped;

/// Whether to go on when all is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Until the sandbox's QEMU ends.
    Yes,
    /// Print what is there.
    No,
}

const POLL: Duration = Duration::from_millis(100);

/// Prints the console of `sandbox` to `out`.
pub fn show(sandbox: &Sandbox, follow: Follow, out: &mut impl Write) -> io::Result<()> {
    let mut log = File::open(sandbox.folder.console())?;
    loop {
        // Asked first: what was printed before the end is read after it.
        let runs = sandbox.qemu().is_some();
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        out.write_all(escaped(&String::from_utf8_lossy(&bytes)).as_bytes())?;
        out.flush()?;
        if follow == Follow::No || !runs {
            return Ok(());
        }
        thread::sleep(POLL);
    }
}
