//! Presence of devices in the machine.

use crate::qmp::command::QomList;
use crate::qmp::{Error, Session};

/// State of a device in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Present,
    Absent,
}

/// Lists the ids of the machine's devices.
pub(super) fn device_ids(qmp: &mut Session) -> Result<Vec<String>, Error> {
    let devices = qmp.run(&QomList {
        path: "/machine/peripheral",
    })?;
    Ok(devices.into_iter().map(|device| device.name).collect())
}
