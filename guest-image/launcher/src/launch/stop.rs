//! `stop`: ends what a sandbox runs and removes its folder, however far its start had come.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use patchbay_host::vsock_stream;

use super::LaunchError;
use super::processes::{ProcessRecord, Role};
use super::registry::{RunDir, Sandbox, SandboxId};

/// How long QEMU may take to end after it was asked to.
const QUIT_PATIENCE: Duration = Duration::from_secs(3);
const QMP_PATIENCE: Duration = Duration::from_secs(1);

/// Stops the sandbox that `prefix` finds; its id.
pub fn stop(run_dir: &RunDir, prefix: &str) -> Result<SandboxId, LaunchError> {
    let mut sandbox = run_dir.find(prefix)?;
    let launcher = sandbox.record.as_ref();
    if let Some(launcher) = launcher.and_then(|record| record.running(Role::Launcher)) {
        // It undoes its own work when it can; what it has written since then is what is left.
        end_all(&sandbox.id, &[*launcher])?;
        sandbox.record = sandbox.folder.read_record()?;
    }
    if let Some(qemu) = sandbox.qemu()
        && quit(&sandbox.folder.qmp()).is_ok()
    {
        // If it takes longer, it gets the signal below.
        let _ = qemu.wait_for_end(QUIT_PATIENCE);
    }
    end_recorded(&sandbox)?;
    run_dir.remove(&sandbox)?;
    Ok(sandbox.id)
}

fn end_recorded(sandbox: &Sandbox) -> Result<(), LaunchError> {
    match &sandbox.record {
        Some(record) => end_all(&sandbox.id, &record.processes),
        None => Ok(()),
    }
}

/// Ends the processes, the last started first.
pub(super) fn end_all(id: &SandboxId, processes: &[ProcessRecord]) -> Result<(), LaunchError> {
    let mut stuck = None;
    for process in processes.iter().rev() {
        if !process.end() {
            stuck = Some(process.pid);
        }
    }
    match stuck {
        None => Ok(()),
        Some(pid) => Err(LaunchError::Stuck {
            id: id.clone(),
            pid,
        }),
    }
}

/// Asks QEMU to end. A monitor that serves somebody else never greets: then the signal does it.
fn quit(path: &Path) -> io::Result<()> {
    let stream = vsock_stream::unix(path, QMP_PATIENCE)?;
    stream.set_read_timeout(Some(QMP_PATIENCE))?;
    stream.set_write_timeout(Some(QMP_PATIENCE))?;
    BufReader::new(&stream).read_line(&mut String::new())?;
    (&stream).write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n")?;
    // The answer may be lost in QEMU's end, but closing before it was read could lose the request.
    let _ = BufReader::new(&stream).lines().nth(1);
    Ok(())
}
