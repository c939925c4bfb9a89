//! A started command that two threads share: one waits for it, one may have to kill it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// The three ends of the command's standard streams.
pub(crate) struct Streams {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

enum State {
    Running,
    Reaped,
}

/// A command in a process group of its own.
pub(crate) struct SharedChild {
    pid: Pid,
    state: Mutex<State>,
}

impl SharedChild {
    /// Starts the command.
    pub(crate) fn start(command: &mut Command) -> io::Result<(Self, Streams)> {
        let child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let shared = Self {
            pid,
            state: Mutex::new(State::Running),
        };
        let streams =
            streams_of(child).ok_or_else(|| io::Error::other("a standard stream is missing"))?;
        Ok((shared, streams))
    }

    /// Waits for the end; the status, or 128 + the signal.
    pub(crate) fn wait(&self) -> io::Result<i32> {
        // Waits without reaping, so that the id stays taken until the lock is held: a kill from
        // another thread can't hit a stranger that got the same id.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        retry_interrupted(|| waitid(Id::Pid(self.pid), flags))?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State::Reaped;
        match retry_interrupted(|| waitpid(self.pid, None))? {
            WaitStatus::Exited(_, status) => Ok(status),
            WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
            other => Err(io::Error::other(format!("unexpected end {other:?}"))),
        }
    }

    /// Kills the command with its process group, unless it has ended.
    pub(crate) fn kill(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Running) {
            // Fails only when the group is gone, which is what is wanted.
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }
}

fn streams_of(mut child: Child) -> Option<Streams> {
    Some(Streams {
        stdin: child.stdin.take()?,
        stdout: child.stdout.take()?,
        stderr: child.stderr.take()?,
    })
}

fn retry_interrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
