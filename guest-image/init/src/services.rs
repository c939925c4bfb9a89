//! Supervises the agent and, in an image with tools, the command server and the TCP echo server.

use std::fs::DirBuilder;
use std::io::{self, PipeWriter};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use patchbay_init::{AGENT_PATH, ECHO_PATH, EXECD_PATH};

use crate::agent_sockets::AgentSockets;
use crate::print;

/// A program is started at most once per interval.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// `PATH` for commands run by exec. A single malloc arena lets the agent's threads share freed
/// memory: with one arena each, it grew by a third over its first hundred rule files.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("PATH", "/sbin:/bin:/usr/sbin:/usr/bin"),
    ("MALLOC_ARENA_MAX", "1"),
];

/// `/run` is a tmpfs, as the undo log requires. The folder is the only one in which the agent can create files.
const AGENT_FOLDER: &str = "/run/patchbay-agent";
const AGENT_ARGS: &[&str] = &["--undo-log", "/run/patchbay-agent/undo"];

struct Supervised {
    program: &'static str,
    args: &'static [&'static str],
    /// Sockets that the program gets.
    sockets: AgentSockets,
    /// Its standard output; `None` for the console.
    log: Option<PipeWriter>,
    /// Process id and time of the start; `None` while it has to be started.
    running: Option<(Pid, Instant)>,
    restarts: u32,
}

/// Keeps the image's programs running and reaps orphans.
pub(crate) struct Supervisor(Vec<Supervised>);

impl Supervisor {
    /// Supervises the agent and those optional programs that the image has.
    pub(crate) fn of_image(sockets: AgentSockets) -> Self {
        let optional = [ECHO_PATH, EXECD_PATH]
            .into_iter()
            .filter(|program| Path::new(program).exists());
        let folder = DirBuilder::new().mode(0o700).create(AGENT_FOLDER);
        if let Err(error) = folder {
            print(&format!("could not create {AGENT_FOLDER}: {error}"));
        }
        // The agent is last: once it answers, the others have been started.
        let programs =
            optional.map(|program| Supervised::new(program, &[], AgentSockets::default()));
        let log = copy_to_console().inspect_err(|error| {
            print(&format!("the agent waits for the console: {error}"));
        });
        let agent = Supervised {
            log: log.ok(),
            ..Supervised::new(AGENT_PATH, AGENT_ARGS, sockets)
        };
        Self(programs.chain([agent]).collect())
    }

    /// Starts programs, reaps children and restarts programs, forever.
    pub(crate) fn run(mut self) -> ! {
        loop {
            for supervised in &mut self.0 {
                supervised.start();
            }
            // Blocks only while all programs run.
            let all_run = self.0.iter().all(|supervised| supervised.running.is_some());
            let flag = (!all_run).then_some(WaitPidFlag::WNOHANG);
            match waitpid(None, flag) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => thread::sleep(RESTART_INTERVAL),
                Ok(status) => self
                    .0
                    .iter_mut()
                    .for_each(|supervised| supervised.reap(status)),
                Err(_) => {}
            }
        }
    }
}

/// Returns a pipe that is copied to the console. A serial line takes more than a millisecond for each line of the
/// agent's log, and a request must not wait for it.
fn copy_to_console() -> io::Result<PipeWriter> {
    let (mut log, writer) = io::pipe()?;
    thread::Builder::new().spawn(move || {
        // Without a reader the agent could not write.
        if io::copy(&mut log, &mut io::stdout()).is_err() {
            let _ = io::copy(&mut log, &mut io::sink());
        }
    })?;
    Ok(writer)
}

impl Supervised {
    fn new(program: &'static str, args: &'static [&'static str], sockets: AgentSockets) -> Self {
        Self {
            program,
            args,
            sockets,
            log: None,
            running: None,
            restarts: 0,
        }
    }

    fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        let mut command = Command::new(self.program);
        command.args(self.args).envs(ENVIRONMENT);
        if let Some(Ok(log)) = self.log.as_ref().map(PipeWriter::try_clone) {
            command.stdout(log);
        }
        match self.sockets.spawn(&mut command) {
            Ok(child) => {
                let pid = Pid::from_raw(child.id().cast_signed());
                self.running = Some((pid, Instant::now()));
            }
            Err(error) => print(&format!("could not start {}: {error}", self.program)),
        }
    }

    fn reap(&mut self, status: WaitStatus) {
        let Some((pid, since)) = self.running else {
            return;
        };
        let how = match status {
            WaitStatus::Exited(ended, code) if ended == pid => format!("with status {code}"),
            WaitStatus::Signaled(ended, signal, _) if ended == pid => format!("by {signal}"),
            _ => return,
        };
        self.restarts = self.restarts.saturating_add(1);
        self.running = None;
        let uptime = since.elapsed();
        print(&format!(
            "{} ended {how} after {:.1} s; restart {}",
            self.program,
            uptime.as_secs_f32(),
            self.restarts
        ));
        thread::sleep(RESTART_INTERVAL.saturating_sub(uptime));
    }
}
