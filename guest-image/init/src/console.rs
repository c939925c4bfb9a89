//! Lines on the console.

use std::io::Write;

/// Prints one line on the console.
pub(crate) fn say(message: &str) {
    // `eprintln!` panics when the console is gone, and process 1 must not.
    let _ = writeln!(std::io::stderr(), "patchbay-init: {message}");
}
