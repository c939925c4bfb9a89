//! A running command shared by two threads: one waits for it, the other can kill it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// Parent's ends of the command's standard streams.
pub(crate) struct Streams {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

/// Command in its own process group.
pub(crate) struct SharedChild {
    pid: Pid,
    reaped: Mutex<bool>,
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
            reaped: Mutex::new(false),
        };
        let streams =
            streams_of(child).ok_or_else(|| io::Error::other("a standard stream is missing"))?;
        Ok((shared, streams))
    }

    /// Waits for the end and returns the exit status, or 128 + the signal.
    pub(crate) fn wait(&self) -> io::Result<i32> {
        // Reaps under the lock only, so that `kill` never meets a reused process id.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        retry_interrupted(|| waitid(Id::Pid(self.pid), flags))?;
        let mut reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        *reaped = true;
        match retry_interrupted(|| waitpid(self.pid, None))? {
            WaitStatus::Exited(_, status) => Ok(status),
            WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
            other => Err(io::Error::other(format!(
                "unexpected wait status {other:?}"
            ))),
        }
    }

    /// Kills the process group, unless the command has been reaped.
    pub(crate) fn kill(&self) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            // Fails only if the group has ended already.
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
