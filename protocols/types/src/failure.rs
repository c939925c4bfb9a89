//! Failures, as they cross the wire and reach the operator.
//!
//! A [`Failure`] is sent complete in the details of a ttrpc status, so that no peer parses prose:
//! the kind decides, the message informs.

use crate::text::is_terminal_control;

/// Kind of failure. The number is the exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Any other failure.
    Other = 1,
    /// Invalid input.
    Invalid = 2,
    /// The object doesn't exist.
    NotFound = 3,
    /// A different object exists already.
    Exists = 4,
    /// Not ready; the same call can succeed later.
    NotYet = 5,
    /// The kernel or QEMU denied permission.
    Denied = 6,
    /// The kernel, agent or QEMU lacks the capability.
    Unsupported = 7,
    /// The kernel or QEMU refused for another reason.
    Kernel = 8,
    /// Timeout.
    Timeout = 9,
}

impl Kind {
    /// All kinds.
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

    /// Returns the exit code of a command, 1 to 9.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        self as u8
    }

    /// Returns the kind of an errno, for calls that give it no special meaning.
    #[must_use]
    pub fn from_errno(errno: i32) -> Self {
        match errno {
            1 | 13 => Kind::Denied,       // EPERM, EACCES
            2 | 3 | 19 => Kind::NotFound, // ENOENT, ESRCH, ENODEV
            17 => Kind::Exists,           // EEXIST
            20 | 21 => Kind::Invalid,     // ENOTDIR, EISDIR
            95 => Kind::Unsupported,      // EOPNOTSUPP
            110 => Kind::Timeout,         // ETIMEDOUT
            _ => Kind::Kernel,
        }
    }
}

/// Failure: kind, message and causes. Texts often repeat untrusted bytes (of the guest, QEMU or a
/// file), so each is bounded and its terminal controls are escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    kind: Kind,
    message: String,
    field: Option<String>,
    errno: Option<i32>,
    chain: Vec<String>,
}

/// Maximum length of a text in characters; a list of eight sandboxes with their folders fits.
pub const MAX_TEXT: usize = 4096;
impl Failure {
    /// Creates a failure with a message that doesn't repeat its causes.
    pub fn new(kind: Kind, message: impl AsRef<str>) -> Self {
        Self {
            kind,
            message: clean(message.as_ref()),
            field: None,
            errno: None,
            chain: Vec::new(),
        }
    }

    /// Creates a failure from an error and its sources.
    pub fn of(kind: Kind, error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        Self {
            chain: causes.map(|cause| clean(&cause.to_string())).collect(),
            ..Self::new(kind, error.to_string())
        }
    }

    /// Creates a failure of a system call, with its error as the cause.
    pub fn of_io(message: impl AsRef<str>, error: &std::io::Error) -> Self {
        let kind = error.raw_os_error().map_or(Kind::Other, Kind::from_errno);
        Self::new(kind, message).with_cause(error.to_string())
    }

    /// Replaces the kind, for callers that know better.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Names the invalid input field.
    #[must_use]
    pub fn with_field(mut self, field: impl AsRef<str>) -> Self {
        self.field = Some(clean(field.as_ref()));
        self
    }

    /// Sets the errno.
    #[must_use]
    pub fn with_errno(mut self, errno: i32) -> Self {
        self.errno = Some(errno);
        self
    }

    /// Adds a cause, or an error of a failed rollback.
    #[must_use]
    pub fn with_cause(mut self, cause: impl AsRef<str>) -> Self {
        self.chain.push(clean(cause.as_ref()));
        self
    }

    /// Replaces the message by its context; the old message becomes the first cause.
    #[must_use]
    pub fn context(mut self, step: impl AsRef<str>) -> Self {
        let cause = std::mem::replace(&mut self.message, clean(step.as_ref()));
        self.chain.insert(0, cause);
        self
    }

    /// Joins the message and the causes to one line.
    #[must_use]
    pub fn line(&self) -> String {
        let line = self.message.clone();
        self.chain().fold(line, |line, cause| line + ": " + cause)
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the invalid input field.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// Returns the errno of a failed system call.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// Returns the causes, nearest first.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        self.chain.iter().map(String::as_str)
    }
}

/// Bounds a text and escapes its terminal controls.
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
    fn failure_text_is_escaped_and_bounded() {
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
    fn failure_context_precedes_its_cause() {
        let failure = Failure::new(Kind::Exists, "File exists").context("Could not add 10.0.0.1/8");
        assert_eq!(failure.to_string(), "Could not add 10.0.0.1/8");
        assert_eq!(failure.chain().collect::<Vec<_>>(), ["File exists"]);
    }
}
