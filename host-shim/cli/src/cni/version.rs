//! Versions of the CNI specification.

use std::str::FromStr;

use patchbay_types::InvalidValue;
use serde_json::json;

/// Supported version. What the plugin reads and writes is the same in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// The first one with a list of plugins.
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    const ALL: [Self; 5] = [
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];
    /// Latest version.
    pub(super) const LATEST: Self = Self::V1_1_0;

    /// The text.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Returns the reply to `VERSION`.
    pub(super) fn reply() -> String {
        let versions = Self::ALL.map(Self::as_str);
        json!({"cniVersion": Self::LATEST.as_str(), "supportedVersions": versions}).to_string()
    }
}

impl FromStr for Version {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| {
            let versions = Self::ALL.map(Self::as_str).join(", ");
            InvalidValue::new(text, format!("it must be one of {versions}"))
        })
    }
}
