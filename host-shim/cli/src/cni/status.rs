//! STATUS: whether this host can serve an ADD. No machine is contacted.

use std::fs;
use std::path::Path;

use patchbay_host::private;
use patchbay_types::failure::Failure;

use super::error::{CniError, Code};

const TUN: &str = "/dev/net/tun";

/// Checks the parts that every card needs.
pub(super) fn check(run_dir: &Path) -> Result<(), CniError> {
    let unavailable = |message: String| {
        move |error| CniError::new(Code::PluginNotAvailable, Failure::of_io(message, &error))
    };
    let mut tun = fs::File::options();
    let tun = tun.read(true).write(true).open(TUN);
    tun.map_err(unavailable(format!("could not open {TUN}")))?;
    let message = format!("could not create the run directory {}", run_dir.display());
    private::create_folder(run_dir, private::LISTED).map_err(unavailable(message))
}
