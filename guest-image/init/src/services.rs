//! Keeping the agent and, in an image with tools, the command server and the echo running; and
//! reaping what they leave behind.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use patchbay_init::{AGENT_PATH, ECHO_PATH, EXECD_PATH};

use crate::console::say;

/// A program is started at most once in this time.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

const PATH: &str = "/sbin:/bin:/usr/sbin:/usr/bin";

/// For glibc's `malloc`: what a large request needed is used again by the next, whichever thread serves
/// it; with an arena for each thread the agent grew by a third over its first hundred rule files.
const ONE_ARENA: [(&str, &str); 1] = [("MALLOC_ARENA_MAX", "1")];

enum State {
    Waiting,
    Running { pid: Pid, since: Instant },
}

/// What leads back should the agent be killed at a rule file; gone when the kernel is.
const AGENT_WORDS: &[&str] = &["--undo-log", "/run/patchbay-agent.undo"];

struct Service {
    program: &'static str,
    words: &'static [&'static str],
    state: State,
    restarts: u32,
}

/// The programs that process 1 keeps running.
pub(crate) struct Services(Vec<Service>);

impl Services {
    /// The agent, and whatever else this image holds.
    pub(crate) fn of_image() -> Self {
        let optional = [ECHO_PATH, EXECD_PATH]
            .into_iter()
            .filter(|program| Path::new(program).exists());
        // The agent last: who finds it answering finds the others started.
        let services = optional.map(|program| Service::new(program, &[]));
        let agent = Service::new(AGENT_PATH, AGENT_WORDS);
        Self(services.chain([agent]).collect())
    }

    /// Starts them, reaps children, restarts what died, for ever.
    pub(crate) fn keep_running(mut self) -> ! {
        loop {
            for service in &mut self.0 {
                service.start_if_waiting();
            }
            match waitpid(None, self.wait_flag()) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => thread::sleep(RESTART_INTERVAL),
                Ok(status) => self.note(status),
                Err(_) => {}
            }
        }
    }

    /// Waiting blocks only while nothing is left to be started.
    fn wait_flag(&self) -> Option<WaitPidFlag> {
        let all_run = self
            .0
            .iter()
            .all(|service| matches!(service.state, State::Running { .. }));
        (!all_run).then_some(WaitPidFlag::WNOHANG)
    }

    fn note(&mut self, status: WaitStatus) {
        for service in &mut self.0 {
            service.note(status);
        }
    }
}

impl Service {
    fn new(program: &'static str, words: &'static [&'static str]) -> Self {
        Self {
            program,
            words,
            state: State::Waiting,
            restarts: 0,
        }
    }

    fn start_if_waiting(&mut self) {
        if matches!(self.state, State::Running { .. }) {
            return;
        }
        let mut command = Command::new(self.program);
        command.args(self.words).env("PATH", PATH).envs(ONE_ARENA);
        match command.spawn() {
            Ok(child) => {
                self.state = State::Running {
                    pid: pid_of(child.id()),
                    since: Instant::now(),
                }
            }
            Err(error) => say(&format!("{} can't be started: {error}", self.program)),
        }
    }

    fn note(&mut self, status: WaitStatus) {
        let State::Running { pid, since } = self.state else {
            return;
        };
        let how = match status {
            WaitStatus::Exited(ended, code) if ended == pid => format!("with status {code}"),
            WaitStatus::Signaled(ended, signal, _) if ended == pid => format!("by {signal}"),
            _ => return,
        };
        self.restarts = self.restarts.saturating_add(1);
        self.state = State::Waiting;
        let lived = since.elapsed();
        say(&format!(
            "{} ended {how} after {:.1} s; restart {}",
            self.program,
            lived.as_secs_f32(),
            self.restarts
        ));
        thread::sleep(RESTART_INTERVAL.saturating_sub(lived));
    }
}

fn pid_of(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed())
}
