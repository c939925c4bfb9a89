//! Network namespaces of the guest.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::InvalidValue;

/// Network namespace of the guest, by a process that is in it or by a file.
///
/// ```
/// use patchbay_types::GuestNetns;
///
/// let of_process: GuestNetns = "1234".parse()?;
/// assert_eq!(of_process.path().to_str(), Some("/proc/1234/ns/net"));
/// assert!("run/netns/a".parse::<GuestNetns>().is_err());
/// # Ok::<(), patchbay_types::InvalidValue>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestNetns {
    /// Process id in the guest.
    Process(NonZeroU32),
    /// Absolute path in the guest, such as `/run/netns/NAME`.
    Path(PathBuf),
}

impl GuestNetns {
    /// Maximum length of the text in bytes: `PATH_MAX`.
    pub const MAX_BYTES: u64 = 4096;

    /// Returns the path of the namespace in the guest.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Process(pid) => format!("/proc/{pid}/ns/net").into(),
            Self::Path(path) => path.clone(),
        }
    }
}

impl FromStr for GuestNetns {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if let Ok(pid) = text.parse() {
            return Ok(Self::Process(pid));
        }
        let fits = text.len() as u64 <= Self::MAX_BYTES;
        if fits && Path::new(text).is_absolute() && !text.contains(char::is_control) {
            return Ok(Self::Path(text.into()));
        }
        let rule = "it must be a process id or an absolute path, in the guest";
        Err(InvalidValue::new(text, rule))
    }
}

impl fmt::Display for GuestNetns {
    /// Prints the text that is parsed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => pid.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netns_prints_its_text_and_refuses_others() {
        for text in ["1", "4294967295", "/run/netns/a", "/proc/7/ns/net"] {
            assert_eq!(text.parse::<GuestNetns>().unwrap().to_string(), text);
        }
        let long = format!("/{}", "a".repeat(4096));
        for text in [
            "",
            "0",
            "-1",
            "a",
            "./a",
            "4294967296",
            "/a\nb",
            long.as_str(),
        ] {
            let error = text.parse::<GuestNetns>().unwrap_err().to_string();
            assert!(error.contains("process id"), "{error}");
        }
    }
}
