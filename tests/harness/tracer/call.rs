//! The system call at which a thread is stopped.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::libc;
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::{HANDSHAKE, Stop};
use crate::raw_agent::method;

/// Returns the step at which this thread is stopped, if its system call is one.
pub fn step(pid: Pid) -> Option<(Stop, String)> {
    stopped_at(pid, Call::label)
}

fn stopped_at(pid: Pid, label: fn(&Call) -> Option<String>) -> Option<(Stop, String)> {
    let op = ptrace::syscall_info(pid).ok()?.op;
    let stop = match op {
        libc::PTRACE_SYSCALL_INFO_ENTRY => Stop::Before,
        libc::PTRACE_SYSCALL_INFO_EXIT => Stop::After,
        _ => return None,
    };
    let call = Call::read(pid)?;
    Some((stop, label(&call)?))
}

/// First component of the paths that a program opens before and after the calls of [`call`].
const MARKS: &str = "/proc/self/marks/";

/// Returns the system call at which this thread is stopped, if it is one on sockets or files.
pub(super) fn call(pid: Pid) -> Option<(Stop, String)> {
    stopped_at(pid, Call::name)
}

/// A system call and its first arguments.
struct Call {
    pid: Pid,
    number: i64,
    arguments: [u64; 3],
}

impl Call {
    fn read(pid: Pid) -> Option<Self> {
        let regs = ptrace::getregs(pid).ok()?;
        Some(Self {
            pid,
            number: regs.orig_rax.cast_signed(),
            arguments: [regs.rdi, regs.rsi, regs.rdx],
        })
    }

    /// Returns a label for the effect of the call, `None` if it is not a step.
    fn label(&self) -> Option<String> {
        /// The ioctl requests that change an interface.
        const SETTERS: [(u64, &str); 3] = [
            (0x4004_54ca, "TUNSETIFF"),
            (libc::SIOCSIFMTU, "SIOCSIFMTU"),
            (libc::SIOCSIFFLAGS, "SIOCSIFFLAGS"),
        ];
        let [first, second, third] = self.arguments;
        Some(match self.number {
            libc::SYS_write | libc::SYS_sendto => self.sent(second, third)?,
            libc::SYS_writev => self.sent_parts(second)?,
            // `struct msghdr`: address, its length, then the vector.
            libc::SYS_sendmsg => self.sent_parts(self.word(second + 16)?)?,
            libc::SYS_connect => "connect".to_owned(),
            libc::SYS_flock => "flock".to_owned(),
            libc::SYS_fsync => format!("fsync {}", self.file()?),
            libc::SYS_mkdir => format!("mkdir {}", self.path(first)?),
            libc::SYS_rename => format!("rename {}", self.path(first)?),
            libc::SYS_unlink => format!("unlink {}", self.path(first)?),
            libc::SYS_unlinkat => format!("unlink {}", self.path(second)?),
            libc::SYS_openat if third & u64::from(libc::O_CREAT.cast_unsigned()) != 0 => {
                format!("create {}", self.path(second)?)
            }
            libc::SYS_ioctl => {
                let setter = SETTERS.iter().find(|(request, _)| *request == second);
                setter?.1.to_owned()
            }
            _ => return None,
        })
    }

    /// Returns the name of a call on sockets or files, or the last component of a mark.
    fn name(&self) -> Option<String> {
        let [_, second, _] = self.arguments;
        let name = match self.number {
            libc::SYS_socket => "socket",
            libc::SYS_bind => "bind",
            libc::SYS_getsockname => "getsockname",
            libc::SYS_setsockopt => "setsockopt",
            libc::SYS_sendto => "sendto",
            libc::SYS_recvfrom => "recvfrom",
            libc::SYS_poll => "poll",
            libc::SYS_ioctl => "ioctl",
            libc::SYS_read => "read",
            libc::SYS_write => "write",
            libc::SYS_getdents64 => "getdents64",
            libc::SYS_statx => "statx",
            libc::SYS_readlink => "readlink",
            libc::SYS_unlink => "unlink",
            libc::SYS_openat => {
                let path = self.memory(second, 64)?;
                return Some(if path.starts_with(MARKS.as_bytes()) {
                    self.path(second)?
                } else {
                    "openat".to_owned()
                });
            }
            _ => return None,
        };
        Some(name.to_owned())
    }

    fn sent_parts(&self, parts: u64) -> Option<String> {
        self.sent(self.word(parts)?, self.word(parts + 8)?)
    }

    /// Returns the label of a write to a socket or a file; a write to an eventfd is not a step.
    fn sent(&self, address: u64, length: u64) -> Option<String> {
        let target = self.target()?;
        let bytes = self.memory(address, usize::try_from(length.min(256)).ok()?)?;
        if target.starts_with("anon_inode:") {
            return None;
        }
        if !target.starts_with("socket:") {
            // The pipes are standard output and error.
            let pipe = target.starts_with("pipe:");
            return Some(if pipe {
                "print".to_owned()
            } else {
                format!("write {}", self.file()?)
            });
        }
        let text = String::from_utf8_lossy(&bytes);
        if text.starts_with("CONNECT ") {
            return Some(HANDSHAKE.to_owned());
        }
        if let Some((_, rest)) = text.split_once(r#""execute":""#) {
            return Some(format!("qmp {}", rest.split('"').next()?));
        }
        // A ttrpc header has ten bytes.
        let method = bytes.get(10..).and_then(method);
        Some(method.map_or_else(|| "send".to_owned(), |name| format!("rpc {name}")))
    }

    /// Returns the target of the descriptor that is the first argument.
    fn target(&self) -> Option<String> {
        let fd = self.arguments[0];
        let target = std::fs::read_link(format!("/proc/{}/fd/{fd}", self.pid)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    /// Returns the name of the file of this descriptor.
    fn file(&self) -> Option<String> {
        self.target()?.rsplit('/').next().map(str::to_owned)
    }

    fn path(&self, address: u64) -> Option<String> {
        let bytes = self.memory(address, 256)?;
        let text = bytes.split(|byte| *byte == 0).next()?;
        let path = String::from_utf8_lossy(text).into_owned();
        path.rsplit('/').next().map(str::to_owned)
    }

    fn word(&self, address: u64) -> Option<u64> {
        let bytes = self.memory(address, 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }

    fn memory(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let memory = File::open(format!("/proc/{}/mem", self.pid)).ok()?;
        let mut bytes = vec![0; length];
        let read = memory.read_at(&mut bytes, address).ok()?;
        bytes.truncate(read);
        Some(bytes)
    }
}
