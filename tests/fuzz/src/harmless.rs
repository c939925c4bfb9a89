//! Assertions on messages about foreign bytes, which go to terminals and logs.

use patchbay_types::failure::Failure;
use patchbay_types::text::is_terminal_control;

/// Maximum length of a text in characters.
const LONGEST: usize = 4096;

/// Asserts that a text is bounded and has no terminal control characters.
pub(crate) fn text(text: &str) {
    assert!(!text.contains(is_terminal_control), "{text:?}");
    assert!(text.chars().count() <= LONGEST, "{} bytes", text.len());
}

/// Asserts the same of every text of a failure.
pub(crate) fn failure(failure: &Failure) {
    text(&failure.to_string());
    failure.field().into_iter().for_each(text);
    failure.chain().for_each(text);
    assert!((1..=9).contains(&failure.kind().exit_code()));
}
