//! Output of `sysctl list`.

use patchbay_types::ipvs::Reading;
use serde::Serialize;

use super::Tabular;
use super::table::Cells;

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

impl Tabular for SysctlJson {
    fn rows(&self) -> Vec<Cells> {
        let cells = Cells::default()
            .with("NAME", self.name)
            .with("VALUE", &self.value)
            .with("RANGE", &self.range)
            .with("PURPOSE", self.purpose);
        vec![cells]
    }
}
