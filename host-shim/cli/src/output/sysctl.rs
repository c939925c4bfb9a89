//! Settings of IPVS.

use patchbay_types::ipvs::Reading;
use serde::Serialize;

/// A setting of `sysctl list`.
#[derive(Debug, Serialize)]
pub struct SysctlRow {
    name: &'static str,
    value: String,
    range: String,
    purpose: &'static str,
}

impl From<&Reading> for SysctlRow {
    fn from(reading: &Reading) -> Self {
        Self {
            name: reading.sysctl.name(),
            value: reading.value.to_string(),
            range: reading.sysctl.legal(),
            purpose: reading.sysctl.purpose(),
        }
    }
}
