//! Sockets of vhost-user backends.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::InvalidValue;

const RULE: &str = "a vhost-user socket is an absolute path of at most 107 bytes (the kernel's limit for a Unix \
     socket), whose last part starts with a letter and has only letters, digits, '-' and '.'";

/// Maximum length of a Unix socket's path in bytes: `sun_path` of `linux/un.h` without the NUL. The
/// user guide's 128 is not possible.
const MAX_LEN: usize = 107;

/// Path of the Unix socket between QEMU and a vhost-user backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SocketPath(PathBuf);

impl SocketPath {
    /// Returns the path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for SocketPath {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let name = text.rsplit('/').next().unwrap_or_default();
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
        let legal = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        let printable = !text.contains(char::is_control);
        if text.starts_with('/') && text.len() <= MAX_LEN && starts && legal && printable {
            Ok(Self(PathBuf::from(text)))
        } else {
            Err(InvalidValue::new(text, RULE))
        }
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_path_of_guide_is_accepted() {
        let text = "/usr/local/var/run/openvswitch/vhost-user1";
        assert_eq!(text.parse::<SocketPath>().unwrap().to_string(), text);
    }

    #[test]
    fn socket_path_invalid_is_refused_with_rule() {
        let long = format!("/{}", "a".repeat(107));
        for text in [
            "",
            "vhost-user1",
            "/tmp/vhost_user1",
            "/tmp/1vhost",
            "/tmp/",
            "/t\n/vhost",
            &long,
        ] {
            assert_eq!(
                text.parse::<SocketPath>(),
                Err(InvalidValue::new(text, RULE)),
                "{text}"
            );
        }
    }
}
