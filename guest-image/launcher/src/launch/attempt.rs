//! One attempt to start a sandbox: starts the processes, waits for the agent, or undoes everything.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use patchbay_host::agent::Agent;
use patchbay_host::sandbox::{SandboxFile, SandboxId};
use patchbay_host::vsock_stream;
use patchbay_init::EXEC_PORT;
use patchbay_types::endpoint::Endpoint;

use super::LaunchError;
use super::folder::Folder;
use super::interrupt::Interrupts;
use super::logs;
use super::processes::{ProcessRecord, ProcessRole};
use super::record::Record;
use super::registry::{RegisteredSandbox, RunDir};
use super::spawn::{GatedChild, ProgramSpec};
use super::stop::end_all;
use crate::image::Tools;

/// Decisions made before the first process starts.
pub(super) struct StartPlan {
    pub(super) qemu: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// Program that serves vsock if the kernel does not.
    pub(super) daemon: Option<PathBuf>,
    pub(super) agent: Endpoint,
    pub(super) timeout: Duration,
}

/// Reason why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A program can't be started.
    #[error("could not start {}", .program.display())]
    NotSpawned {
        /// Path of the program.
        program: PathBuf,
        /// Error of the operation.
        source: io::Error,
    },
    /// QEMU or the vsock daemon has ended.
    #[error("{} ended ({status})", .program.display())]
    Ended {
        /// Path of the program.
        program: PathBuf,
        /// Its exit status.
        status: ExitStatus,
    },
    /// The agent did not answer in time.
    #[error("the agent did not answer within {} seconds", .0.as_secs())]
    Timeout(Duration),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// The size of the logs can't be limited.
    #[error("could not limit the size of the logs")]
    LogLimit(#[source] io::Error),
    /// A file of the sandbox can't be written.
    #[error(transparent)]
    Files(Box<LaunchError>),
}

impl From<LaunchError> for StartError {
    fn from(error: LaunchError) -> Self {
        Self::Files(Box::new(error))
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Log message of a listening agent.
const AGENT_SERVES: &str = "the agent serves";
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const EVIDENCE_LINES: usize = 20;

pub(super) struct Attempt {
    id: SandboxId,
    folder: Folder,
    record: Record,
    interrupts: Interrupts,
    children: Vec<(PathBuf, Child)>,
}

impl Attempt {
    pub(super) fn new(
        id: SandboxId,
        folder: Folder,
        record: Record,
        interrupts: Interrupts,
    ) -> Self {
        Self {
            id,
            folder,
            record,
            interrupts,
            children: Vec::new(),
        }
    }

    pub(super) fn run(mut self, run_dir: &RunDir, plan: &StartPlan) -> Result<(), LaunchError> {
        let result = self.bring_up(plan);
        result.map_err(|error| self.undo(run_dir, error))
    }

    fn bring_up(&mut self, plan: &StartPlan) -> Result<(), StartError> {
        let deadline = Instant::now() + plan.timeout;
        if let Some(daemon) = &plan.daemon {
            self.spawn_daemon(daemon)?;
            let socket = self.folder.vhost();
            self.wait_until(plan, deadline, || socket.exists())?;
        }
        let netns = self.record.netns.clone();
        let qemu = ProgramSpec {
            path: &plan.qemu,
            arguments: &plan.arguments,
            log: self.folder.qemu_log(),
            netns: netns.as_deref(),
        };
        let pid = self.spawn(ProcessRole::Qemu, &qemu)?;
        // vhost-device-vsock 0.3 can lose a connection made before the guest has its driver, and all
        // later ones with it. So wait for the agent's log message before the first connection.
        let console = self.folder.console();
        self.wait_until(plan, deadline, || logs::contains(&console, AGENT_SERVES))?;
        let greeting = || Agent::connect(&plan.agent).and_then(|agent| agent.greeting());
        self.wait_until(plan, deadline, || greeting().is_ok())?;
        if self.record.tools == Tools::With {
            let execd = plan.agent.clone().at_port(EXEC_PORT);
            let execd_answers = || vsock_stream::connect(&execd, CONNECT_TIMEOUT).is_ok();
            self.wait_until(plan, deadline, execd_answers)?;
        }
        self.record
            .processes
            .retain(|process| process.role != ProcessRole::Launcher);
        for process in &self.record.processes {
            logs::limit(process).map_err(StartError::LogLimit)?;
        }
        self.folder.write_sandbox_file(&SandboxFile {
            qmp: self.folder.qmp(),
            agent: plan.agent.to_string(),
            netns,
            pid: Some(pid),
        })?;
        Ok(self.folder.write_record(&self.record)?)
    }

    fn spawn_daemon(&mut self, path: &Path) -> Result<u32, StartError> {
        let daemon = ProgramSpec {
            path,
            arguments: &[
                "--socket".into(),
                self.folder.vhost().into(),
                "--uds-path".into(),
                self.folder.vsock().into(),
            ],
            log: self.folder.vsock_log(),
            netns: None,
        };
        self.spawn(ProcessRole::Vsock, &daemon)
    }

    fn spawn(&mut self, role: ProcessRole, program: &ProgramSpec<'_>) -> Result<u32, StartError> {
        let failed = |source| StartError::NotSpawned {
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

    fn wait_until(
        &mut self,
        plan: &StartPlan,
        deadline: Instant,
        condition: impl Fn() -> bool,
    ) -> Result<(), StartError> {
        while !condition() {
            for (program, child) in &mut self.children {
                if let Ok(Some(status)) = child.try_wait() {
                    let program = program.clone();
                    return Err(StartError::Ended { program, status });
                }
            }
            if Instant::now() >= deadline {
                return Err(StartError::Timeout(plan.timeout));
            }
            if self.interrupts.interrupted_within(POLL_INTERVAL) {
                return Err(StartError::Interrupted);
            }
        }
        Ok(())
    }

    fn undo(mut self, run_dir: &RunDir, error: StartError) -> LaunchError {
        let evidence = self.evidence();
        let not_launcher = |process: &&ProcessRecord| process.role != ProcessRole::Launcher;
        let processes: Vec<_> = self
            .record
            .processes
            .iter()
            .filter(not_launcher)
            .copied()
            .collect();
        let ended = end_all(&self.id, &processes);
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
        LaunchError::NotStarted {
            id: self.id,
            source: error,
            undo_error: undone.err().map(Box::new),
            evidence,
        }
    }

    fn evidence(&self) -> Vec<String> {
        let folder = &self.folder;
        let mut lines = Vec::new();
        for log in [folder.console(), folder.qemu_log(), folder.vsock_log()] {
            let name = log.file_name().unwrap_or_default().to_string_lossy();
            let last = logs::last_lines(&log, EVIDENCE_LINES);
            lines.extend(last.into_iter().map(|line| format!("{name}: {line}")));
        }
        lines
    }
}
