//! Stops a program at each of its steps by ptrace, to kill it there, or to let the step fail.
//!
//! A step is a system call with an effect outside the process: sending on a socket, writing to a file,
//! changing a folder or a network device.
//!
//! `strace -f -e inject=SET:signal=KILL:when=N` can't replace this. It counts N per thread, so the Nth
//! step of a program with several threads can't be addressed; it can only kill before a call, not
//! after; and it doesn't filter by argument, such as the descriptor or the ioctl request.

mod call;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use self::call::call;
pub use self::call::step;
use crate::Done;

/// Label of the step that requests a connection to the guest.
pub const HANDSHAKE: &str = "handshake";

/// A stop at a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// On entry: the kernel has not executed the call.
    Before,
    /// On exit: the kernel has executed the call, the program has not seen the result.
    After,
}

/// A point at which to kill a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Number of the step, from 0.
    pub step: usize,
    /// Before or after the step.
    pub stop: Stop,
}

/// Result of [`kill_at`].
#[derive(Debug)]
pub enum Outcome {
    /// The program was killed at the step with this label.
    Killed(String),
    /// The program exited before that point, since no two runs have exactly the same steps.
    Exited(Done),
}

/// Runs a program until it exits; returns the labels of its steps.
pub fn steps(command: &Command, input: &str) -> (Vec<String>, Done) {
    let mut traced = Traced::start(command, input);
    let mut steps = Vec::new();
    while let Some((stop, label)) = traced.next_step() {
        if stop == Stop::Before {
            steps.push(label);
        }
        traced.resume();
    }
    (steps, traced.end())
}

/// Runs a program up to a point and kills it there. After the handshake with the guest it is not
/// killed: vhost-device-vsock 0.3 stops serving once a connection closes before the guest accepts it.
pub fn kill_at(command: &Command, input: &str, point: Point) -> Outcome {
    let mut traced = Traced::start(command, input);
    let mut begun = 0;
    while let Some((stop, label)) = traced.next_step() {
        let step = match stop {
            Stop::Before => {
                begun += 1;
                begun - 1
            }
            // Steps of different threads don't overlap, so the call that ends began last.
            Stop::After => begun - 1,
        };
        let skipped = label == HANDSHAKE && stop == Stop::After;
        if (Point { step, stop }) == point && !skipped {
            traced.kill();
            return Outcome::Killed(label);
        }
        traced.resume();
    }
    Outcome::Exited(traced.end())
}

/// Runs a program up to a point and sends it a signal there; it then runs until it exits. Returns the
/// label of the step, `None` if the program exited before that point.
pub fn signal_at(
    command: &Command,
    input: &str,
    point: Point,
    signal: Signal,
) -> (Option<String>, Done) {
    let mut traced = Traced::start(command, input);
    let (mut begun, mut at) = (0, None);
    while let Some((stop, label)) = traced.next_step() {
        if stop == Stop::Before {
            begun += 1;
        }
        let step = begun - 1;
        if at.is_none() && (Point { step, stop }) == point {
            traced.signal(signal);
            at = Some(label);
        }
        traced.resume();
    }
    (at, traced.end())
}

/// Runs a program in which the system call of one step fails: the kernel doesn't execute it. Returns the
/// label of the step, `None` if the program exited before.
pub fn fail_at(
    command: &Command,
    input: &str,
    step: usize,
    errno: Errno,
) -> (Option<String>, Done) {
    let mut traced = Traced::start(command, input);
    let (mut begun, mut failed) = (0, None);
    while let Some((stop, label)) = traced.next_step() {
        if stop == Stop::Before {
            if begun == step {
                traced.fail_call(errno);
                failed = Some(label);
            }
            begun += 1;
        }
        traced.resume();
    }
    (failed, traced.end())
}

/// Lists the calls on sockets and files that a program makes between two marks: it opens
/// `/proc/self/marks/begin` and `/proc/self/marks/end`, which don't exist.
pub fn calls(command: &Command) -> (Vec<String>, Done) {
    let mut traced = Traced::start(command, "");
    traced.recognize = call;
    let mut calls = Vec::new();
    traced.each_marked_call(|_, label| calls.push(label));
    (calls, traced.end())
}

/// Runs a program in which one of [`calls`] fails: the kernel doesn't execute it. Returns its name, `None`
/// if the program made fewer calls.
pub fn fail_call_at(command: &Command, number: usize, errno: Errno) -> (Option<String>, Done) {
    let mut traced = Traced::start(command, "");
    traced.recognize = call;
    let (mut begun, mut failed) = (0, None);
    traced.each_marked_call(|traced, label| {
        if begun == number {
            traced.fail_call(errno);
            failed = Some(label);
        }
        begun += 1;
    });
    (failed, traced.end())
}

/// A program that stops at each system call of each thread.
struct Traced {
    child: Child,
    /// Returns the step at which a thread is stopped.
    recognize: fn(Pid) -> Option<(Stop, String)>,
    /// The stopped thread.
    stopped: Option<Pid>,
    /// `true` after the exec, when the program has replaced the shell.
    running: bool,
    status: Option<i32>,
}

impl Traced {
    fn start(command: &Command, input: &str) -> Self {
        // A child that waits for its tracer, without code between fork and exec.
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"kill -STOP $$; exec "$0" "$@""#]);
        shell.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            shell.env(key, value.unwrap());
        }
        let mut document = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut document, input.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut document).unwrap();
        let child = shell
            .stdin(document)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(pid, options).unwrap();
        kill(pid, Signal::SIGCONT).unwrap();
        Self {
            child,
            recognize: step,
            stopped: None,
            running: false,
            status: None,
        }
    }

    /// Continues to the next step and leaves a thread stopped there; `None` if the program exited.
    fn next_step(&mut self) -> Option<(Stop, String)> {
        // The exit of a process is reported after those of its threads. The test can have other
        // children.
        while self.status.is_none() {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let mut pass_on = None;
            let pid = match waitpid(None, Some(flags)) {
                Err(errno) => panic!("{errno}"),
                Ok(WaitStatus::Exited(pid, status)) => {
                    self.note_end(pid, status);
                    continue;
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.note_end(pid, 128 + signal as i32);
                    continue;
                }
                Ok(WaitStatus::PtraceSyscall(pid)) => {
                    if let Some(step) = self.running.then(|| (self.recognize)(pid)).flatten() {
                        self.stopped = Some(pid);
                        return Some(step);
                    }
                    pid
                }
                Ok(WaitStatus::PtraceEvent(pid, _, event)) => {
                    self.running |= event == libc::PTRACE_EVENT_EXEC;
                    pid
                }
                Ok(WaitStatus::Stopped(pid, signal)) => {
                    pass_on = Some(signal);
                    pid
                }
                Ok(other) => panic!("{other:?}"),
            };
            resume_thread(pid, pass_on);
        }
        None
    }

    /// Passes the calls between the marks, each before the kernel executes it.
    fn each_marked_call(&mut self, mut each: impl FnMut(&Self, String)) {
        let mut is_marked = false;
        while let Some((stop, label)) = self.next_step() {
            match (&*label, stop) {
                ("begin", _) => is_marked = true,
                ("end", _) => is_marked = false,
                (_, Stop::Before) if is_marked => each(self, label),
                _ => {}
            }
            self.resume();
        }
    }

    fn note_end(&mut self, pid: Pid, status: i32) {
        if pid.as_raw() == self.child.id().cast_signed() {
            self.status = Some(status);
        }
    }

    fn resume(&mut self) {
        if let Some(pid) = self.stopped.take() {
            resume_thread(pid, None);
        }
    }

    /// Replaces the call on whose entry a thread is stopped by this error.
    fn fail_call(&self, errno: Errno) {
        let pid = self.stopped.unwrap();
        let mut regs = ptrace::getregs(pid).unwrap();
        // No call has this number.
        regs.orig_rax = u64::MAX;
        ptrace::setregs(pid, regs).unwrap();
        ptrace::syscall(pid, None).unwrap();
        let stopped = waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
        assert_eq!(stopped, WaitStatus::PtraceSyscall(pid));
        regs.rax = (-i64::from(errno as i32)).cast_unsigned();
        ptrace::setregs(pid, regs).unwrap();
    }

    /// Sends a signal and waits for the program to receive it.
    fn signal(&self, signal: Signal) {
        let pid = self.child.id();
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
        let is_pending = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
            pending.is_some_and(|mask| mask.trim().contains(|digit| digit != '0'))
        };
        // A thread that receives signals and is itself stopped gets it later.
        let deadline = Instant::now() + Duration::from_millis(200);
        while is_pending() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }

    fn kill(mut self) {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGKILL,
        )
        .unwrap();
        self.running = false;
        while self.next_step().is_some() {}
    }

    fn end(mut self) -> Done {
        let mut text = [String::new(), String::new()];
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        std::io::Read::read_to_string(&mut out.unwrap(), &mut text[0]).unwrap();
        std::io::Read::read_to_string(&mut err.unwrap(), &mut text[1]).unwrap();
        let [out, err] = text;
        Done {
            status: self.status.unwrap(),
            out,
            err,
        }
    }
}

/// Resumes a thread, unless it was killed meanwhile.
fn resume_thread(pid: Pid, signal: Option<Signal>) {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => panic!("{errno}"),
    }
}
