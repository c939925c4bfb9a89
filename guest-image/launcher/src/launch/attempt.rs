//! One attempt to start a sandbox: starts the processes, waits for the agent, or undoes everything.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use patchbay_host::agent::Agent;
use patchbay_host::interrupt::Interrupt;
use patchbay_host::netns::Netns;
use patchbay_host::sandbox::{SandboxFile, SandboxId};
use patchbay_host::vsock_stream;
use patchbay_init::EXEC_PORT;
use patchbay_types::endpoint::Endpoint;

use super::folder::{CONSOLE, Folder, QEMU_LOG, QMP, VHOST, VSOCK, VSOCK_LOG};
use super::interrupt::Interrupts;
use super::logs;
use super::processes::{ProcessRecord, ProcessRole, Record, end_all};
use super::registry::{RegisteredSandbox, RunDir};
use super::spawn::{GatedChild, ProgramSpec};
use crate::error::Error;
use crate::image::Tools;

/// Decisions made before the first process starts.
pub(super) struct StartPlan {
    pub(super) qemu: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// Program that serves vsock if the kernel does not.
    pub(super) daemon: Option<PathBuf>,
    pub(super) agent: Endpoint,
    pub(super) netns: Option<Netns>,
    pub(super) timeout: Duration,
}

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Log message of a listening agent.
const AGENT_SERVES: &str = "the agent serves";
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const EVIDENCE_LINES: usize = 20;

pub(super) struct Attempt<'a> {
    pub(super) id: SandboxId,
    pub(super) folder: Folder,
    pub(super) record: Record,
    pub(super) interrupts: Interrupts,
    pub(super) plan: &'a StartPlan,
    pub(super) deadline: Instant,
    pub(super) children: Vec<(PathBuf, Child)>,
}

impl Attempt<'_> {
    pub(super) fn run(mut self, run_dir: &RunDir) -> Result<(), Error> {
        let result = self.bring_up();
        result.map_err(|error| self.undo(run_dir, error))
    }

    fn bring_up(&mut self) -> Result<(), Error> {
        let plan = self.plan;
        if let Some(daemon) = &plan.daemon {
            self.spawn_daemon(daemon)?;
            let socket = self.folder.file(VHOST);
            self.wait_until(|| socket.exists())?;
        }
        let qemu = ProgramSpec {
            path: &plan.qemu,
            arguments: &plan.arguments,
            log: self.folder.file(QEMU_LOG),
            netns: plan.netns.as_ref(),
        };
        let pid = self.spawn(ProcessRole::Qemu, &qemu)?;
        // vhost-device-vsock 0.3 can lose a connection made before the guest has its driver, and all
        // later ones with it. So wait for the agent's log message before the first connection.
        let console = self.folder.file(CONSOLE);
        self.wait_until(|| logs::contains(&console, AGENT_SERVES))?;
        let greeting = || {
            Agent::connect(&plan.agent, &Interrupt::default()).and_then(|agent| agent.greeting())
        };
        self.wait_until(|| greeting().is_ok())?;
        if self.record.tools == Tools::With {
            let execd = plan.agent.clone().at_port(EXEC_PORT);
            self.wait_until(|| vsock_stream::connect(&execd, CONNECT_TIMEOUT).is_ok())?;
        }
        self.record
            .processes
            .retain(|process| process.role != ProcessRole::Launcher);
        for process in &self.record.processes {
            logs::limit(process).map_err(Error::LogLimit)?;
        }
        let file = SandboxFile {
            qmp: self.folder.file(QMP),
            agent: plan.agent.to_string(),
            netns: self.record.netns.clone(),
            pid: Some(pid),
        };
        self.folder.write(SandboxFile::NAME, &file)?;
        self.folder.write_record(&self.record)
    }

    fn spawn_daemon(&mut self, path: &Path) -> Result<u32, Error> {
        let daemon = ProgramSpec {
            path,
            arguments: &[
                "--socket".into(),
                self.folder.file(VHOST).into(),
                "--uds-path".into(),
                self.folder.file(VSOCK).into(),
            ],
            log: self.folder.file(VSOCK_LOG),
            netns: None,
        };
        self.spawn(ProcessRole::Vsock, &daemon)
    }

    fn spawn(&mut self, role: ProcessRole, program: &ProgramSpec<'_>) -> Result<u32, Error> {
        let failed = |source| Error::NotSpawned {
            program: program.path.to_owned(),
            source,
        };
        let gated = GatedChild::spawn(program).map_err(failed)?;
        let pid = gated.id();
        self.record.processes.extend(ProcessRecord::of(role, pid));
        self.folder.write_record(&self.record)?;
        let child = gated.release().map_err(failed)?;
        self.children.push((program.path.to_owned(), child));
        Ok(pid)
    }

    fn wait_until(&mut self, condition: impl Fn() -> bool) -> Result<(), Error> {
        while !condition() {
            for (program, child) in &mut self.children {
                if let Ok(Some(status)) = child.try_wait() {
                    let program = program.clone();
                    return Err(Error::Ended { program, status });
                }
            }
            if Instant::now() >= self.deadline {
                return Err(Error::Timeout(self.plan.timeout));
            }
            if self.interrupts.interrupted_within(POLL_INTERVAL) {
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    }

    fn undo(mut self, run_dir: &RunDir, error: Error) -> Error {
        let evidence = self.evidence();
        let processes = self.record.processes.iter();
        let started = processes.filter(|process| process.role != ProcessRole::Launcher);
        let ended = end_all(&self.id, started);
        for (_, child) in &mut self.children {
            // Reaps the process that has been ended.
            let _ = child.try_wait();
        }
        let sandbox = RegisteredSandbox {
            id: self.id.clone(),
            folder: self.folder,
            record: Some(self.record),
        };
        let undone = ended.and_then(|()| run_dir.remove(&sandbox));
        Error::NotStarted {
            id: self.id,
            source: Box::new(error),
            undo_error: undone.err().map(Box::new),
            evidence,
        }
    }

    fn evidence(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in [CONSOLE, QEMU_LOG, VSOCK_LOG] {
            let last = logs::last_lines(&self.folder.file(name), EVIDENCE_LINES);
            lines.extend(last.into_iter().map(|line| format!("{name}: {line}")));
        }
        lines
    }
}
