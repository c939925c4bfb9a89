//! Reads and writes settings.

use std::io::{self, ErrorKind};

use patchbay_types::ipvs::{Reading, Setting, Sysctl, SysctlValue};

use super::error::Error;
use crate::ipvs::sysctl;

/// Treatment of an IPVS that isn't loaded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// It is loaded.
    OnDemand,
    /// It isn't loaded, and has no settings.
    Never,
}

/// Reads the settings that this kernel has.
pub(super) fn read_all() -> Result<Vec<Reading>, Error> {
    let read = |sysctl| match read(sysctl) {
        Err(Error::NoSysctl(_)) => None,
        value => Some(value.map(|value| Reading { sysctl, value })),
    };
    Sysctl::all().filter_map(read).collect()
}

/// Reads a setting.
pub(super) fn read(sysctl: Sysctl) -> Result<SysctlValue, Error> {
    let value = sysctl::read(sysctl).map_err(|error| Error::Sysctl(sysctl, error))?;
    value.ok_or(Error::NoSysctl(sysctl))
}

/// Writes a setting, and reads it back.
pub(super) fn write(setting: &Setting) -> Result<(), Error> {
    let sysctl = setting.get().sysctl;
    sysctl::write(setting).map_err(|error: io::Error| match error.kind() {
        ErrorKind::NotFound => Error::NoSysctl(sysctl),
        _ => Error::Sysctl(sysctl, error),
    })?;
    let value = read(sysctl)?;
    if value != setting.get().value {
        return Err(Error::OtherValue(Reading { sysctl, value }));
    }
    Ok(())
}
