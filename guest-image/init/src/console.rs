//! Lines on the console.

use std::io::Write;

/// Prints a line on the console.
pub(crate) fn print(message: &str) {
    // `eprintln!` panics when the console fails, which would end process 1.
    let _ = writeln!(std::io::stderr(), "patchbay-init: {message}");
}
