//! Errors of the plugin, as the CNI specification defines them.

use patchbay_types::failure::{Failure, Kind};
use serde_json::json;

use super::version::Version;

/// Error code: up to 99 those of the specification, then patchbay's.
///
/// Code 3 ("container unknown") is not used: a runtime can skip DEL after it, and the addresses of the
/// plugins before this one would leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Code {
    IncompatibleVersion = 1,
    InvalidEnvironment = 4,
    InputNotRead = 5,
    InvalidJson = 6,
    InvalidConfiguration = 7,
    TryAgainLater = 11,
    PluginNotAvailable = 50,
    /// The machine can't be reached or can't have the card.
    Machine = 100,
    /// The name, the MAC address or the link is in use.
    Exists = 101,
    /// The kernel, QEMU or the guest denied permission.
    Denied = 102,
    /// The kernel or QEMU refused.
    Refused = 103,
    Other = 104,
}

impl From<Kind> for Code {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Invalid => Self::InvalidConfiguration,
            Kind::NotYet | Kind::Timeout => Self::TryAgainLater,
            Kind::NotFound | Kind::Unsupported => Self::Machine,
            Kind::Exists => Self::Exists,
            Kind::Denied => Self::Denied,
            Kind::Kernel => Self::Refused,
            Kind::Other => Self::Other,
        }
    }
}

/// Failure with its code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CniError {
    pub(super) code: Code,
    failure: Failure,
}

impl From<Failure> for CniError {
    fn from(failure: Failure) -> Self {
        Self {
            code: failure.kind().into(),
            failure,
        }
    }
}

impl CniError {
    /// Creates an error with a code that does not follow from the kind of the failure.
    pub(super) fn new(code: Code, failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        Self { code, failure }
    }

    /// Returns the document for standard output.
    pub(super) fn document(&self, version: Version) -> String {
        let details: Vec<_> = self.failure.chain().collect();
        let document = json!({
            "cniVersion": version.as_str(),
            "code": self.code as u8,
            "msg": self.failure.to_string(),
            "details": details.join(": "),
        });
        document.to_string()
    }

    /// Returns the message with its causes.
    pub(super) fn line(&self) -> String {
        self.failure.line()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_each_kind_is_never_container_unknown() {
        let codes = Kind::ALL.map(|kind| Code::from(kind) as u8);
        assert_eq!(codes, [104, 7, 100, 101, 11, 102, 100, 103, 11]);
    }

    #[test]
    fn document_has_message_and_causes() {
        let failure = Failure::new(Kind::NotFound, "no QEMU answers at /q")
            .with_cause("refused")
            .with_cause("os error 111");
        let error = CniError::from(failure);
        assert_eq!(
            error.document(Version::V0_4_0),
            r#"{"cniVersion":"0.4.0","code":100,"msg":"no QEMU answers at /q","details":"refused: os error 111"}"#
        );
        assert_eq!(error.line(), "no QEMU answers at /q: refused: os error 111");
    }
}
