//! `stop`: ends a sandbox's processes and removes its folder, also after an incomplete start.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use patchbay_host::sandbox::SandboxId;
use patchbay_host::vsock_stream;

use super::folder::QMP;
use super::processes::{ProcessRecord, ProcessRole};
use super::registry::RunDir;
use crate::error::Error;

/// Time for QEMU to end after `quit`.
const QUIT_TIMEOUT: Duration = Duration::from_secs(3);
const QMP_TIMEOUT: Duration = Duration::from_secs(1);

/// Stops the sandbox with this id or unique prefix.
pub(crate) fn stop(run_dir: &RunDir, prefix: &str) -> Result<(), Error> {
    let mut sandbox = run_dir.find(prefix)?;
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
    run_dir.remove(&sandbox)
}

/// Ends processes in the reverse order of their start.
pub(super) fn end_all<'a>(
    id: &SandboxId,
    processes: impl IntoIterator<IntoIter: DoubleEndedIterator<Item = &'a ProcessRecord>>,
) -> Result<(), Error> {
    let mut result = Ok(());
    for process in processes.into_iter().rev() {
        if !process.end() {
            let (id, pid) = (id.clone(), process.process.pid);
            result = Err(Error::Stuck { id, pid });
        }
    }
    result
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
