//! Standard error.

use std::io::{self, Write as _};

/// Prints a text on standard error.
pub(crate) fn print_error(text: &str) {
    // Nothing can be reported if standard error is closed.
    let _ = io::stderr().write_all(text.as_bytes());
}
