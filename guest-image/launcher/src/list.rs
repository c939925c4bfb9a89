//! `list`: sandboxes as a table or as JSON.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use patchbay_host::ops::{RunState, run_state};
use serde::Serialize;

use crate::launch::folder::QMP;
use crate::launch::options::MachineType;
use crate::launch::registry::{RegisteredSandbox, SandboxState};

/// JSON object and table row of a sandbox.
#[derive(Debug, Serialize)]
struct SandboxRow {
    id: String,
    state: SandboxState,
    pid: Option<u32>,
    machine: Option<MachineType>,
    netns: Option<PathBuf>,
}

impl SandboxRow {
    fn new(sandbox: &RegisteredSandbox) -> Self {
        let pid = sandbox.qemu().map(|qemu| qemu.process.pid);
        let record = sandbox.record.as_ref();
        Self {
            id: sandbox.id.to_string(),
            state: shown_state(sandbox),
            pid: pid.or_else(|| sandbox.foreign()?.pid),
            machine: record.map(|record| record.machine),
            netns: record.and_then(|record| record.netns.clone()),
        }
    }
}

/// Returns the state; QEMU is asked whether it runs the guest. One that gives no answer, since another
/// client uses the monitor, counts as running.
fn shown_state(sandbox: &RegisteredSandbox) -> SandboxState {
    let state = sandbox.state();
    let pid = sandbox.qemu().map(|qemu| qemu.process.pid);
    match state {
        SandboxState::Running => match run_state(&sandbox.folder.file(QMP), pid) {
            RunState::Qemu(word) if word != "running" => SandboxState::Paused,
            RunState::Frozen => SandboxState::Paused,
            _ => state,
        },
        _ => state,
    }
}

/// Reports the remedy for broken sandboxes.
pub(crate) fn note_broken(sandboxes: &[RegisteredSandbox], note: &mut dyn FnMut(&str)) {
    let is_broken = |sandbox: &&RegisteredSandbox| sandbox.state() == SandboxState::Broken;
    for RegisteredSandbox { id, .. } in sandboxes.iter().filter(is_broken) {
        note(&format!(
            "sandbox {id} can't be reached because its vsock proxy has died: stop the sandbox and start it again"
        ));
    }
}

/// Prints a JSON array.
pub(crate) fn print_json(sandboxes: &[RegisteredSandbox], out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<SandboxRow> = sandboxes.iter().map(SandboxRow::new).collect();
    writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)
}

/// Prints a table.
pub(crate) fn print_table(sandboxes: &[RegisteredSandbox], out: &mut impl Write) -> io::Result<()> {
    for row in sandboxes.iter().map(SandboxRow::new) {
        let SandboxRow { id, state, .. } = &row;
        let pid = row
            .pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let machine = row.machine.map_or("-", MachineType::name);
        let netns = row.netns.as_deref().unwrap_or(Path::new("-")).display();
        let state = state.name();
        writeln!(out, "{id:<24} {state:<8} {pid:>8} {machine:<4} {netns}")?;
    }
    Ok(())
}
