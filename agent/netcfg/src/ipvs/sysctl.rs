//! Settings in `/proc/sys`.

use std::fs::{self, File};
use std::io::{self, Read as _};

use patchbay_types::ipvs::{Setting, Sysctl, SysctlValue};

const FOLDER: &str = "/proc/sys";
/// Maximum size of a file; a setting has at most two integers.
const MAX_FILE_BYTES: u64 = 64;

fn path(sysctl: Sysctl) -> String {
    format!("{FOLDER}/{}", sysctl.full_name().replace('.', "/"))
}

/// Reads a setting; `None` if the kernel doesn't have it.
pub fn read(sysctl: Sysctl) -> io::Result<Option<SysctlValue>> {
    read_file(&path(sysctl))
}

/// Returns the number of flows that conntrack tracks; `None` if it isn't loaded.
#[must_use]
pub fn flows() -> Option<u32> {
    match read_file("/proc/sys/net/netfilter/nf_conntrack_count") {
        Ok(Some(SysctlValue::One(flows))) => u32::try_from(flows).ok(),
        _ => None,
    }
}

fn read_file(path: &str) -> io::Result<Option<SysctlValue>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    let value = text.parse();
    value
        .map(Some)
        .map_err(|invalid| io::Error::new(io::ErrorKind::InvalidData, invalid))
}

/// Writes a setting.
///
/// # Errors
/// Fails with `NotFound` if the kernel doesn't have the setting.
pub fn write(setting: &Setting) -> io::Result<()> {
    let setting = setting.get();
    fs::write(path(setting.sysctl), setting.value.to_string())
}
