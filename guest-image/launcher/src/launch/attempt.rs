//! One attempt to start a sandbox: spawn, wait for the agent, or undo everything and say why.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use patchbay_host::agent::Agent;
use patchbay_host::vsock_stream;
use patchbay_init::EXEC_PORT;
use patchbay_types::endpoint::Endpoint;

use super::LaunchError;
use super::folder::{Description, Folder};
use super::interrupt::Interrupts;
use super::logs;
use super::processes::{ProcessRecord, Role};
use super::qemu::QemuConfig;
use super::registry::{Record, RunDir, Sandbox, SandboxId};
use super::spawn::{Gated, Program};
use super::stop::end_all;
use crate::image::Tools;

/// Everything that was decided before the first process.
pub(super) struct Plan {
    pub(super) qemu: PathBuf,
    pub(super) config: QemuConfig,
    pub(super) daemon: Option<PathBuf>,
    pub(super) agent: Endpoint,
    pub(super) netns: Option<PathBuf>,
    pub(super) timeout: Duration,
}

/// Why a sandbox that was begun did not come up.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A program can't be started.
    #[error("{} can't be started.", .program.display())]
    NotSpawned {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// QEMU or the vsock daemon ended by itself.
    #[error("{} ended ({status}).", .program.display())]
    Ended {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// The time is up.
    #[error("The agent did not answer within {} seconds.", .0.as_secs())]
    Timeout(Duration),
    /// Ctrl-C or SIGTERM.
    #[error("It was interrupted.")]
    Interrupted,
    /// The size of its logs can't be limited.
    #[error("The size of its logs can't be limited.")]
    Unlimited(#[source] io::Error),
    /// The sandbox's own files can't be written.
    #[error(transparent)]
    Files(Box<LaunchError>),
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        Self::Files(Box::new(error))
    }
}

const RETRY: Duration = Duration::from_millis(10);
/// What the agent's log says once it listens.
const AGENT_SERVES: &str = "the agent serves";
/// How long one question to the guest may take.
const PATIENCE: Duration = Duration::from_millis(500);
const EVIDENCE_LINES: usize = 20;

struct Running {
    program: PathBuf,
    child: Child,
}

pub(super) struct Attempt {
    id: SandboxId,
    folder: Folder,
    record: Record,
    interrupts: Interrupts,
    running: Vec<Running>,
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
            running: Vec::new(),
        }
    }

    pub(super) fn run(mut self, run_dir: &RunDir, plan: &Plan) -> Result<Description, LaunchError> {
        match self.bring_up(plan) {
            Ok(description) => Ok(description),
            Err(failure) => Err(self.undo(run_dir, failure)),
        }
    }

    fn bring_up(&mut self, plan: &Plan) -> Result<Description, Failure> {
        let deadline = Instant::now() + plan.timeout;
        if let Some(daemon) = &plan.daemon {
            self.spawn(Role::Vsock, &self.daemon(daemon))?;
            let socket = self.folder.vhost();
            self.wait_until(plan, deadline, || socket.exists())?;
        }
        let qemu = Program {
            path: &plan.qemu,
            arguments: plan.config.arguments(),
            log: self.folder.qemu_log(),
            netns: plan.netns.as_deref(),
        };
        let pid = self.spawn(Role::Qemu, &qemu)?;
        // vhost-device-vsock 0.3 can lose a connection that comes before the guest has its driver,
        // and every later one with it; so the first comes when the agent has said that it serves.
        let console = self.folder.console();
        self.wait_until(plan, deadline, || logs::says(&console, AGENT_SERVES))?;
        let greeting = || Agent::connect(&plan.agent).and_then(|agent| agent.greeting());
        self.wait_until(plan, deadline, || greeting().is_ok())?;
        if self.record.tools == Tools::With {
            let execd = plan.agent.clone().at_port(EXEC_PORT);
            let executes = || vsock_stream::connect(&execd, PATIENCE).is_ok();
            self.wait_until(plan, deadline, executes)?;
        }
        let description = Description {
            qmp: self.folder.qmp(),
            agent: plan.agent.to_string(),
            netns: plan.netns.clone(),
            pid,
        };
        self.record
            .processes
            .retain(|process| process.role != Role::Launcher);
        for process in &self.record.processes {
            logs::limit(process).map_err(Failure::Unlimited)?;
        }
        self.folder.write_description(&description)?;
        self.folder.write_record(&self.record)?;
        Ok(description)
    }

    fn daemon<'a>(&self, path: &'a Path) -> Program<'a> {
        let arguments = vec![
            "--socket".into(),
            self.folder.vhost().into(),
            "--uds-path".into(),
            self.folder.vsock().into(),
        ];
        Program {
            path,
            arguments,
            log: self.folder.vsock_log(),
            netns: None,
        }
    }

    fn spawn(&mut self, role: Role, program: &Program<'_>) -> Result<u32, Failure> {
        let failed = |source| Failure::NotSpawned {
            program: program.path.to_owned(),
            source,
        };
        let gated = Gated::spawn(program).map_err(failed)?;
        let pid = gated.id();
        self.record.processes.extend(ProcessRecord::of(role, pid));
        self.folder.write_record(&self.record)?;
        let child = gated.release().map_err(failed)?;
        let program = program.path.to_owned();
        self.running.push(Running { program, child });
        Ok(pid)
    }

    fn wait_until(
        &mut self,
        plan: &Plan,
        deadline: Instant,
        condition: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        while !condition() {
            for Running { program, child } in &mut self.running {
                if let Ok(Some(status)) = child.try_wait() {
                    let program = program.clone();
                    return Err(Failure::Ended { program, status });
                }
            }
            if Instant::now() >= deadline {
                return Err(Failure::Timeout(plan.timeout));
            }
            if self.interrupts.interrupted_within(RETRY) {
                return Err(Failure::Interrupted);
            }
        }
        Ok(())
    }

    fn undo(mut self, run_dir: &RunDir, failure: Failure) -> LaunchError {
        let evidence = self.evidence();
        let others = |process: &ProcessRecord| process.role != Role::Launcher;
        let ours: Vec<_> = self
            .record
            .processes
            .iter()
            .copied()
            .filter(others)
            .collect();
        let ended = end_all(&self.id, &ours);
        for Running { child, .. } in &mut self.running {
            // Reaps a process that has just been ended.
            let _ = child.try_wait();
        }
        let sandbox = Sandbox {
            id: self.id.clone(),
            folder: self.folder,
            record: Some(self.record),
        };
        let undone = ended.and_then(|()| run_dir.remove(&sandbox));
        LaunchError::NotStarted {
            id: self.id,
            source: failure,
            left: undone.err().map(Box::new),
            evidence,
        }
    }

    fn evidence(&self) -> Vec<String> {
        let logs = [
            self.folder.console(),
            self.folder.qemu_log(),
            self.folder.vsock_log(),
        ];
        let mut lines = Vec::new();
        for log in logs {
            let name = log.file_name().unwrap_or_default().to_string_lossy();
            for line in logs::end_of(&log, EVIDENCE_LINES) {
                lines.push(format!("{name}: {line}"));
            }
        }
        lines
    }
}
