//! Waits of a command. Each call that could wait is carried out without waiting; if it fails for that, it is
//! repeated once something has happened, until its deadline in virtual time.

use std::collections::HashMap;

use nix::libc::{self, user_regs_struct as Registers};
use nix::sys::ptrace;
use nix::unistd::Pid;

use crate::clock::Clock;
use crate::memory::{Memory, SECOND};
use crate::process::{skip_call, to_entry, to_exit};

/// A thread that waits.
#[derive(Debug)]
pub(crate) struct Wait {
    /// Registers at the entry of the call.
    regs: Registers,
    kind: Kind,
    /// Virtual time; `None`: without limit.
    pub(crate) deadline: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// For the deadline; the thread is stopped at the entry of its call.
    Sleep,
    /// For another value of a futex; the same.
    Futex,
    /// For descriptors; the thread is stopped at the exit of its call.
    Ready,
    /// For bytes; the same.
    Receive,
}

/// Begin of a call.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "short-lived")]
pub(crate) enum Begun {
    /// It never waits; the kernel has not executed it.
    Other,
    Done,
    Waits(Wait),
}

/// Waits of a process, and the receive timeouts of its sockets.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    timeouts: HashMap<u64, u64>,
}

/// Bits of a futex call that are its operation.
const FUTEX_OPERATION: u64 = 0x7f;
const FUTEX_CLOCK_REALTIME: u64 = 0x100;

impl Waits {
    /// Begins a call, at whose entry a thread is stopped.
    pub(crate) fn begin(
        &mut self,
        pid: Pid,
        regs: &Registers,
        memory: &Memory,
        clock: &Clock,
    ) -> Begun {
        let wait = |kind, deadline| Wait {
            regs: *regs,
            kind,
            deadline,
        };
        let now = clock.now();
        let wait = match regs.orig_rax.cast_signed() {
            libc::SYS_setsockopt => {
                self.note_timeout(regs, memory);
                return Begun::Other;
            }
            libc::SYS_close => {
                self.timeouts.remove(&regs.rdi);
                return Begun::Other;
            }
            libc::SYS_clock_nanosleep => {
                let time = memory.nanoseconds(regs.rdx, SECOND);
                let deadline = match regs.rsi {
                    0 => now + time,
                    _ => Clock::absolute(regs.rdi, time),
                };
                return Begun::Waits(wait(Kind::Sleep, Some(deadline)));
            }
            libc::SYS_futex if is_futex_wait(regs) => {
                let wait = wait(Kind::Futex, futex_deadline(regs, memory, now));
                if wait.is_futex_unchanged(memory) {
                    return Begun::Waits(wait);
                }
                // The kernel returns at once.
                return Begun::Other;
            }
            libc::SYS_poll => wait(Kind::Ready, milliseconds(regs.rdx, now)),
            libc::SYS_epoll_wait => wait(Kind::Ready, milliseconds(regs.r10, now)),
            libc::SYS_recvfrom => {
                let deadline = self.timeouts.get(&regs.rdi).map(|timeout| now + timeout);
                wait(Kind::Receive, deadline)
            }
            _ => return Begun::Other,
        };
        attempt(pid, wait, clock).map_or(Begun::Done, Begun::Waits)
    }

    /// Notes the receive timeout of a socket.
    fn note_timeout(&mut self, regs: &Registers, memory: &Memory) {
        let option = [regs.rsi, regs.rdx].map(u64::cast_signed);
        if option != [libc::SOL_SOCKET, libc::SO_RCVTIMEO].map(i64::from) {
            return;
        }
        match memory.nanoseconds(regs.r10, 1_000_000) {
            0 => self.timeouts.remove(&regs.rdi),
            timeout => self.timeouts.insert(regs.rdi, timeout),
        };
    }
}

/// Repeats the call of a thread that waits; returns the wait if it is not over.
pub(crate) fn retry(pid: Pid, wait: Wait, memory: &Memory, clock: &Clock) -> Option<Wait> {
    let is_over = wait.is_over(clock);
    match wait.kind {
        Kind::Sleep if is_over => skip_call(pid, wait.regs, 0),
        Kind::Futex if !wait.is_futex_unchanged(memory) => drop(to_exit(pid)),
        Kind::Futex if is_over => {
            let timed_out = (-i64::from(libc::ETIMEDOUT)).cast_unsigned();
            skip_call(pid, wait.regs, timed_out);
        }
        Kind::Sleep | Kind::Futex => return Some(wait),
        Kind::Ready | Kind::Receive => {
            to_entry(pid, wait.regs);
            return attempt(pid, wait, clock);
        }
    }
    None
}

/// Carries a call out without waiting.
fn attempt(pid: Pid, wait: Wait, clock: &Clock) -> Option<Wait> {
    let regs = wait.regs;
    let at_once = match regs.orig_rax.cast_signed() {
        libc::SYS_poll => Registers { rdx: 0, ..regs },
        libc::SYS_epoll_wait => Registers { r10: 0, ..regs },
        _ => {
            let flags = regs.r10 | u64::from(libc::MSG_DONTWAIT.cast_unsigned());
            Registers { r10: flags, ..regs }
        }
    };
    ptrace::setregs(pid, at_once).unwrap();
    let result = to_exit(pid).rax.cast_signed();
    let is_complete = match wait.kind {
        Kind::Receive => result != -i64::from(libc::EAGAIN) || is_nonblocking(pid, &regs),
        _ => result != 0,
    };
    if is_complete || wait.is_over(clock) {
        // The program sees its own arguments.
        let done = ptrace::getregs(pid).unwrap();
        let (rdx, r10) = (regs.rdx, regs.r10);
        ptrace::setregs(pid, Registers { rdx, r10, ..done }).unwrap();
        return None;
    }
    Some(wait)
}

impl Wait {
    fn is_over(&self, clock: &Clock) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= clock.now())
    }

    fn is_futex_unchanged(&self, memory: &Memory) -> bool {
        let value = u32::from_ne_bytes(memory.read(self.regs.rdi));
        u64::from(value) == self.regs.rdx & u64::from(u32::MAX)
    }
}

/// Returns the deadline of a timeout in milliseconds, which is negative for none.
fn milliseconds(timeout: u64, now: u64) -> Option<u64> {
    let timeout = u32::try_from(timeout & u64::from(u32::MAX))
        .unwrap()
        .cast_signed();
    let timeout = u64::try_from(timeout).ok()?;
    Some(now + timeout * (SECOND / 1_000))
}

/// Operations of a futex that wait.
const FUTEX_WAITS: [i32; 2] = [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET];

fn is_futex_wait(regs: &Registers) -> bool {
    FUTEX_WAITS.contains(&futex_operation(regs))
}

fn futex_operation(regs: &Registers) -> i32 {
    i32::try_from(regs.rsi & FUTEX_OPERATION).unwrap()
}

/// Returns the deadline of a wait for a futex. The second operation has a time of a clock.
fn futex_deadline(regs: &Registers, memory: &Memory, now: u64) -> Option<u64> {
    if regs.r10 == 0 {
        return None;
    }
    let time = memory.nanoseconds(regs.r10, SECOND);
    let clock = match regs.rsi & FUTEX_CLOCK_REALTIME {
        0 => libc::CLOCK_MONOTONIC,
        _ => libc::CLOCK_REALTIME,
    };
    Some(match futex_operation(regs) {
        libc::FUTEX_WAIT => now + time,
        _ => Clock::absolute(i64::from(clock).cast_unsigned(), time),
    })
}

fn is_nonblocking(pid: Pid, regs: &Registers) -> bool {
    let flags = regs.r10 & u64::from(libc::MSG_DONTWAIT.cast_unsigned());
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", regs.rdi)).unwrap();
    let shown = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let shown = i32::from_str_radix(shown.unwrap().trim(), 8).unwrap();
    flags != 0 || shown & libc::O_NONBLOCK != 0
}
