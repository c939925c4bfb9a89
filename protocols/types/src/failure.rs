//! The one shape in which a refusal crosses the wire and reaches the operator.
//!
//! A [`Failure`] travels whole in the details of a ttrpc status, so that nobody ever has to parse
//! prose: the kind decides, the sentence only informs.

use crate::text::is_terminal_control;

/// What sort of refusal; the number is the exit code of a command that ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// None of the others.
    Other = 1,
    /// The input breaks a rule.
    Invalid = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// What was to be made exists, and is different.
    Exists = 4,
    /// The guest has not come so far yet; the same call may succeed later.
    NotYet = 5,
    /// The kernel or QEMU won't let us.
    Denied = 6,
    /// This kernel, agent or QEMU can't do it at all.
    Unsupported = 7,
    /// The kernel or QEMU refused for a reason of its own.
    Kernel = 8,
    /// Somebody did not answer in time.
    Timeout = 9,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 9] = [
        Kind::Other,
        Kind::Invalid,
        Kind::NotFound,
        Kind::Exists,
        Kind::NotYet,
        Kind::Denied,
        Kind::Unsupported,
        Kind::Kernel,
        Kind::Timeout,
    ];

    /// Exit code of a command that ends in this, 1..=9.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        self as u8
    }

    /// The kind of an errno, where the call that got it has no better idea.
    #[must_use]
    pub fn from_errno(errno: i32) -> Self {
        match errno {
            1 | 13 => Kind::Denied,       // EPERM, EACCES
            2 | 3 | 19 => Kind::NotFound, // ENOENT, ESRCH, ENODEV
            17 => Kind::Exists,           // EEXIST
            95 => Kind::Unsupported,      // EOPNOTSUPP
            110 => Kind::Timeout,         // ETIMEDOUT
            _ => Kind::Kernel,
        }
    }
}

/// A refusal: its kind, one sentence, and what led to it. Much of that repeats bytes of others (the
/// guest's, QEMU's, a file's), so whatever goes in is bounded and made harmless for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    kind: Kind,
    message: String,
    field: Option<String>,
    errno: Option<i32>,
    chain: Vec<String>,
}

/// Longest text, in characters; our own name at most eight sandboxes with their folders.
pub const MAX_TEXT: usize = 4096;
impl Failure {
    /// A refusal in one sentence, which does not repeat its causes.
    pub fn new(kind: Kind, message: impl AsRef<str>) -> Self {
        Self {
            kind,
            message: clean(message.as_ref()),
            field: None,
            errno: None,
            chain: Vec::new(),
        }
    }

    /// A refusal told by an error: its sentence, and those of its sources.
    pub fn of(kind: Kind, error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        Self {
            chain: causes.map(|cause| clean(&cause.to_string())).collect(),
            ..Self::new(kind, error.to_string())
        }
    }

    /// The same refusal as another kind, where the caller knows better what it means.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Names the input field at fault.
    #[must_use]
    pub fn with_field(mut self, field: impl AsRef<str>) -> Self {
        self.field = Some(clean(field.as_ref()));
        self
    }

    /// Keeps the kernel's errno.
    #[must_use]
    pub fn with_errno(mut self, errno: i32) -> Self {
        self.errno = Some(errno);
        self
    }

    /// Adds a further cause, or what went wrong while undoing.
    #[must_use]
    pub fn with_cause(mut self, cause: impl AsRef<str>) -> Self {
        self.chain.push(clean(cause.as_ref()));
        self
    }

    /// Says what was being done: the sentence before becomes the first cause.
    #[must_use]
    pub fn context(mut self, step: impl AsRef<str>) -> Self {
        let cause = std::mem::replace(&mut self.message, clean(step.as_ref()));
        self.chain.insert(0, cause);
        self
    }

    /// What sort of refusal.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The input field at fault, if one is.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The kernel's errno, if it was the kernel.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// The causes, nearest first.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        self.chain.iter().map(String::as_str)
    }
}

/// Text, bounded and without anything that a terminal would obey.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if is_terminal_control(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .take(MAX_TEXT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_or_qemu_says_is_harmless_too() {
        let cause = "unknown variant `\x1b[2J`, expected `plugged`";
        let failure = Failure::new(Kind::Other, "a\nb\u{202e}c\u{2028}d\u{2066}")
            .with_field("\u{9b}2J")
            .with_cause(cause)
            .context("\x07".repeat(5000));
        let field = failure.field().into_iter();
        let mut texts = failure.chain().chain(field).collect::<Vec<_>>();
        let step = failure.to_string();
        texts.push(&step);
        let obeyed =
            |text: &&str| text.contains(['\n', '\u{9b}', '\u{202e}', '\u{2028}', '\u{2066}']);
        assert!(!texts.iter().any(obeyed), "{texts:?}");
        assert_eq!(step.chars().count(), MAX_TEXT);
    }

    #[test]
    fn a_step_comes_before_its_cause() {
        let failure = Failure::new(Kind::Exists, "File exists").context("Could not add 10.0.0.1/8");
        assert_eq!(failure.to_string(), "Could not add 10.0.0.1/8");
        assert_eq!(failure.chain().collect::<Vec<_>>(), ["File exists"]);
    }
}
