//! What is said of foreign bytes goes to terminals and logs.

use patchbay_types::failure::Failure;
use patchbay_types::text::is_terminal_control;

/// Longest text, in characters.
const LONGEST: usize = 4096;

/// Text is bounded and holds nothing that a terminal would obey.
pub(crate) fn text(text: &str) {
    assert!(!text.contains(is_terminal_control), "{text:?}");
    assert!(text.chars().count() <= LONGEST, "{} bytes", text.len());
}

/// Every text of a failure.
pub(crate) fn failure(failure: &Failure) {
    text(&failure.to_string());
    failure.field().into_iter().for_each(text);
    failure.chain().for_each(text);
    assert!((1..=9).contains(&failure.kind().exit_code()));
}
