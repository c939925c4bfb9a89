//! `stop`: ends a sandbox's processes and removes its folder, also after an incomplete start.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use patchbay_host::sandbox::SandboxId;
use patchbay_host::vsock_stream;

use super::folder::QMP;
use super::processes::{ProcessRole, end_all};
use super::registry::{RunDir, SandboxState};
use crate::error::Error;

/// Time for QEMU to end after `quit`.
const QUIT_TIMEOUT: Duration = Duration::from_secs(3);
const QMP_TIMEOUT: Duration = Duration::from_secs(1);

/// Stops the sandbox with this id or unique prefix, and returns its id. A machine of another program is
/// removed from the run directory only if its process has ended.
pub(crate) fn stop(run_dir: &RunDir, prefix: &str) -> Result<SandboxId, Error> {
    let mut sandbox = run_dir.find(prefix)?;
    if sandbox.state() == SandboxState::Foreign {
        return Err(Error::Foreign {
            folder: sandbox.folder.path().to_owned(),
            id: sandbox.id,
        });
    }
    let launcher = sandbox.record.as_ref();
    if let Some(launcher) = launcher.and_then(|record| record.running(ProcessRole::Launcher)) {
        // The launcher undoes its start on SIGTERM; its last record has what is left.
        end_all(&sandbox.id, [launcher])?;
        sandbox.record = sandbox.folder.read_record()?;
    }
    if let Some(qemu) = sandbox.qemu()
        && quit(&sandbox.folder.file(QMP)).is_ok()
    {
        // If the timeout expires, a signal follows.
        let _ = qemu.wait_for_end(QUIT_TIMEOUT);
    }
    if let Some(record) = &sandbox.record {
        end_all(&sandbox.id, &record.processes)?;
    }
    run_dir.remove(&sandbox)?;
    Ok(sandbox.id)
}

/// Sends `quit`. A monitor with another client sends no greeting, so this times out.
fn quit(path: &Path) -> io::Result<()> {
    let stream = vsock_stream::unix(path, QMP_TIMEOUT)?;
    stream.set_read_timeout(Some(QMP_TIMEOUT))?;
    stream.set_write_timeout(Some(QMP_TIMEOUT))?;
    BufReader::new(&stream).read_line(&mut String::new())?;
    (&stream).write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n")?;
    // Waits for the reply, which QEMU's exit can cut off: closing earlier could lose the request.
    let _ = BufReader::new(&stream).lines().nth(1);
    Ok(())
}
