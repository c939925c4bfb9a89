//! A command under the control of the simulation: its threads run one at a time, each to its next step or
//! to a wait. Its clock and its random bytes are those of the simulation.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::libc::{self, user_regs_struct as Registers};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use patchbay_tests::tracer::{Stop, step};

use crate::clock::Clock;
use crate::memory::Memory;
use crate::wait::{Begun, Wait, Waits, retry};

/// A thread of a command.
#[derive(Debug)]
struct Thread {
    pid: Pid,
    state: State,
}

/// State of a thread, which is stopped.
#[derive(Debug)]
enum State {
    /// It can run.
    Ready,
    /// It is about to take the step with this label.
    Before(String),
    Waiting(Box<Wait>),
}

/// End of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It has exited with this status and message.
    Exited(i32, String),
    Killed,
}

/// A running command.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    memory: Memory,
    /// In the order of their creation; `None` for one that has ended.
    threads: Vec<Option<Thread>>,
    waits: Waits,
    end: Option<End>,
}

/// Label of the end of a command.
const EXIT: &str = "exit";
/// Number of no system call.
const NO_CALL: u64 = u64::MAX;
/// Length of the instruction `syscall`.
const INSTRUCTION: u64 = 2;

impl Process {
    /// Starts a program and stops it before its first instruction.
    pub(crate) fn start(command: &Command) -> Self {
        // A child that waits for its tracer, without code between fork and exec.
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"kill -STOP $$; exec "$0" "$@""#]);
        shell.arg(command.get_program()).args(command.get_args());
        let shell = shell.stdin(Stdio::null()).stdout(Stdio::null());
        let child = shell.stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(pid, options).unwrap();
        kill(pid, Signal::SIGCONT).unwrap();
        loop {
            match waitpid(pid, None).unwrap() {
                WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) => break,
                WaitStatus::PtraceEvent(..) => ptrace::cont(pid, None).unwrap(),
                WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).unwrap(),
                other => panic!("{other:?}"),
            }
        }
        let memory = Memory::of(pid);
        hide_vdso(pid, &memory);
        let state = State::Ready;
        Self {
            child,
            memory,
            threads: vec![Some(Thread { pid, state })],
            waits: Waits::default(),
            end: None,
        }
    }

    pub(crate) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Lists the threads that can run, with the labels of their steps.
    pub(crate) fn ready(&self) -> Vec<(usize, Option<&str>)> {
        let threads = self.threads.iter().enumerate();
        let ready = threads.filter_map(|(index, thread)| match &thread.as_ref()?.state {
            State::Ready => Some((index, None)),
            State::Before(label) => Some((index, Some(label.as_str()))),
            State::Waiting(_) => None,
        });
        ready.collect()
    }

    /// Returns the earliest deadline of the threads that wait.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let threads = self.threads.iter().flatten();
        let deadlines = threads.filter_map(|thread| match &thread.state {
            State::Waiting(wait) => wait.deadline,
            _ => None,
        });
        deadlines.min()
    }

    /// Lets threads whose wait is over become ready.
    pub(crate) fn wake(&mut self, clock: &mut Clock) {
        for index in 0..self.threads.len() {
            let waiting =
                self.threads[index].take_if(|thread| matches!(&thread.state, State::Waiting(_)));
            let Some(Thread {
                pid,
                state: State::Waiting(wait),
            }) = waiting
            else {
                continue;
            };
            let state = match retry(pid, *wait, &self.memory, clock) {
                None => State::Ready,
                Some(wait) => State::Waiting(Box::new(wait)),
            };
            self.threads[index] = Some(Thread { pid, state });
        }
    }

    /// Runs a thread to its next step, its next wait, or its end.
    pub(crate) fn run(&mut self, index: usize, clock: &mut Clock) {
        let thread = self.threads[index].as_ref().unwrap();
        let pid = thread.pid;
        if matches!(&thread.state, State::Before(label) if label == EXIT) {
            ptrace::syscall(pid, None).unwrap();
            self.finish();
            return;
        }
        loop {
            ptrace::syscall(pid, None).unwrap();
            match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::PtraceSyscall(_) => {
                    if let Some(state) = self.at_call(pid, clock) {
                        self.threads[index].as_mut().unwrap().state = state;
                        return;
                    }
                }
                WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_CLONE) => self.add_thread(pid),
                WaitStatus::PtraceEvent(..) => {}
                WaitStatus::Stopped(_, signal) => panic!("the command received {signal}"),
                WaitStatus::Exited(..) => {
                    self.threads[index] = None;
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Handles a call of a thread, which is stopped at its entry; returns its state if it does not go on.
    fn at_call(&mut self, pid: Pid, clock: &mut Clock) -> Option<State> {
        let regs = ptrace::getregs(pid).unwrap();
        if regs.rax.cast_signed() != -i64::from(libc::ENOSYS) {
            // The exit of a call of no interest.
            return None;
        }
        if let Some(result) = answer(&regs, &self.memory, clock) {
            skip_call(pid, regs, result);
            return None;
        }
        match self.waits.begin(pid, &regs, &self.memory, clock) {
            Begun::Other => {}
            Begun::Done => return None,
            Begun::Waits(wait) => return Some(State::Waiting(Box::new(wait))),
        }
        if regs.orig_rax.cast_signed() == libc::SYS_exit_group {
            return Some(State::Before(EXIT.to_owned()));
        }
        match step(pid) {
            Some((Stop::Before, label)) => Some(State::Before(label)),
            _ => None,
        }
    }

    fn add_thread(&mut self, parent: Pid) {
        let pid = i32::try_from(ptrace::getevent(parent).unwrap()).unwrap();
        let pid = Pid::from_raw(pid);
        waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
        let state = State::Ready;
        self.threads.push(Some(Thread { pid, state }));
    }

    /// Lets the step of a thread fail: the kernel doesn't execute it.
    pub(crate) fn refuse(&mut self, index: usize, errno: Errno) {
        let thread = self.threads[index].as_mut().unwrap();
        let regs = ptrace::getregs(thread.pid).unwrap();
        skip_call(thread.pid, regs, (-i64::from(errno as i32)).cast_unsigned());
        thread.state = State::Ready;
    }

    /// Kills the command.
    pub(crate) fn kill(&mut self) {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGKILL,
        )
        .unwrap();
        self.finish();
    }

    /// Waits for the end of all threads, that of the first one last: the kernel reports it then.
    fn finish(&mut self) {
        let mut status = None;
        for thread in std::mem::take(&mut self.threads)
            .into_iter()
            .rev()
            .flatten()
        {
            status = loop {
                match waitpid(thread.pid, Some(WaitPidFlag::__WALL)).unwrap() {
                    WaitStatus::Exited(_, status) => break Some(status),
                    WaitStatus::Signaled(..) => break None,
                    _ => {}
                }
            };
        }
        let mut text = String::new();
        let stderr = self.child.stderr.take();
        stderr.unwrap().read_to_string(&mut text).unwrap();
        self.end = Some(status.map_or(End::Killed, |status| End::Exited(status, text)));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.kill();
        }
    }
}

/// Answers a call about time or randomness in the kernel's place.
fn answer(regs: &Registers, memory: &Memory, clock: &mut Clock) -> Option<u64> {
    match regs.orig_rax.cast_signed() {
        libc::SYS_clock_gettime => {
            let time = clock.read(regs.rdi);
            memory.write_time(regs.rsi, time);
            Some(0)
        }
        libc::SYS_getrandom => {
            let mut bytes = vec![0; usize::try_from(regs.rsi).unwrap()];
            clock.entropy.fill(&mut bytes);
            memory.write(regs.rdi, &bytes);
            Some(regs.rsi)
        }
        _ => None,
    }
}

/// Continues a thread from the entry of its call to the exit, with a result in place of the kernel's.
pub(crate) fn skip_call(pid: Pid, regs: Registers, result: u64) {
    let skipped = Registers {
        orig_rax: NO_CALL,
        ..regs
    };
    ptrace::setregs(pid, skipped).unwrap();
    let at_exit = to_exit(pid);
    ptrace::setregs(
        pid,
        Registers {
            rax: result,
            ..at_exit
        },
    )
    .unwrap();
}

/// Continues a thread from the entry of its call to the exit; returns its registers.
pub(crate) fn to_exit(pid: Pid) -> Registers {
    ptrace::syscall(pid, None).unwrap();
    let stopped = waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
    assert_eq!(stopped, WaitStatus::PtraceSyscall(pid));
    ptrace::getregs(pid).unwrap()
}

/// Moves a thread from the exit of its call back to the entry.
pub(crate) fn to_entry(pid: Pid, entry: Registers) {
    let again = Registers {
        rip: entry.rip - INSTRUCTION,
        rax: entry.orig_rax,
        ..entry
    };
    ptrace::setregs(pid, again).unwrap();
    let at_entry = to_exit(pid);
    assert_eq!(at_entry.orig_rax, entry.orig_rax);
}

/// Hides the kernel's vDSO, which reads the clock without a system call.
fn hide_vdso(pid: Pid, memory: &Memory) {
    const IGNORED: u64 = 1;
    let mut at = ptrace::getregs(pid).unwrap().rsp;
    // Number of arguments, arguments and environment, each with a null at the end, then the auxiliary vector.
    for _ in 0..2 {
        at += 8;
        while memory.word(at) != 0 {
            at += 8;
        }
    }
    at += 8;
    while memory.word(at) != libc::AT_SYSINFO_EHDR {
        at += 16;
    }
    memory.write(at, &IGNORED.to_ne_bytes());
}
