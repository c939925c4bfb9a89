//! Output of `sysctl list`.

use patchbay_types::ipvs::Reading;
use serde::Serialize;

/// A setting of `sysctl list`.
#[derive(Debug, Serialize)]
pub(crate) struct SysctlJson {
    name: &'static str,
    value: String,
    range: String,
    purpose: &'static str,
}

impl From<&Reading> for SysctlJson {
    fn from(reading: &Reading) -> Self {
        Self {
            name: reading.sysctl.name(),
            value: reading.value.to_string(),
            range: reading.sysctl.legal(),
            purpose: reading.sysctl.purpose(),
        }
    }
}
