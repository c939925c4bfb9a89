//! The files of IPVS's settings.

use std::fs::{self, File};
use std::io::{self, Read as _};

use patchbay_types::ipvs::{Setting, Sysctl, SysctlValue};

const FOLDER: &str = "/proc/sys/net/ipv4/vs";
/// Longer than any two numbers.
const MAX_FILE: u64 = 64;

fn path(sysctl: Sysctl) -> String {
    format!("{FOLDER}/{}", sysctl.name())
}

/// What stands in the file; `None` where this kernel has no such setting.
pub fn read(sysctl: Sysctl) -> io::Result<Option<SysctlValue>> {
    let file = match File::open(path(sysctl)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text)?;
    let value = text.parse();
    value
        .map(Some)
        .map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))
}

/// Writes the file.
///
/// # Errors
/// `NotFound` where this kernel has no such setting.
pub fn write(setting: &Setting) -> io::Result<()> {
    let wanted = setting.get();
    // No file is made where there is none: /proc has no room for one.
    fs::write(path(wanted.sysctl), wanted.value.to_string())
}
