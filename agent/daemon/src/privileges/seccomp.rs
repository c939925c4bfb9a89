//! Filter of system calls, by number and argument.
//!
//! The list has the calls that a tour of all commands makes (45, by `strace -f` in a guest), and those of rare
//! conditions: long waits, large tables, an abort, a clock source without vDSO.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use super::{Error, Profile, by_architecture};

/// System calls of the agent that are allowed with all arguments.
const AGENT: [libc::c_long; 41] = [
    // Files below /proc, /sys and the folders of the undo log and the marks; standard output.
    libc::SYS_close,
    libc::SYS_getdents64,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_read,
    libc::SYS_statx,
    libc::SYS_write,
    // Netlink sockets, and the host's connections.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    // Waiting. The clock is read by a call if the guest's clock source has no vDSO.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_getrandom,
    // Threads, and the capability that one of them raises.
    libc::SYS_capget,
    libc::SYS_capset,
    // A second filter denies it as a kernel does that lacks it: its flags are in memory. `clone` follows.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // The kernel's release in the handshake.
    libc::SYS_uname,
];

/// Condition on an argument: number of the argument, bits that are compared, their value.
type Condition = (u8, u64, u64);

/// Bits of an `int`; the kernel ignores the others.
const INT: u64 = u32::MAX as u64;
const POINTER: u64 = u64::MAX;
/// `SOCK_TYPE_MASK` (`linux/net.h`): the rest of the argument is flags.
const TYPE: u64 = 0xf;

/// Protection of memory.
const NOT_EXECUTABLE: [Condition; 1] = [(2, bits(libc::PROT_EXEC), 0)];
/// `MODULE_INIT_COMPRESSED_FILE` (`linux/module.h`).
const COMPRESSED: u64 = 4;
/// Flags of `pthread_create`; every flag of a namespace or a process is missing.
pub(super) const THREAD: u64 = bits(
    libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID,
);

/// System calls of the agent that are allowed with some arguments: all conditions of a row, any row of a call.
const AGENT_CONDITIONAL: [(libc::c_long, &[Condition]); 16] = [
    // Without `connect`, `sendmsg` and an address in `sendto`, a socket of AF_INET sends nothing. It is for
    // the options of IPVS and the ioctl of ethtool.
    (
        libc::SYS_socket,
        &[
            (0, INT, bits(libc::AF_INET)),
            (1, TYPE, bits(libc::SOCK_DGRAM)),
        ],
    ),
    (libc::SYS_socket, &netlink(libc::NETLINK_ROUTE)),
    (libc::SYS_socket, &netlink(libc::NETLINK_NETFILTER)),
    (libc::SYS_socket, &netlink(libc::NETLINK_GENERIC)),
    (libc::SYS_socket, &netlink(libc::NETLINK_KOBJECT_UEVENT)),
    (libc::SYS_sendto, &[(4, POINTER, 0)]),
    (libc::SYS_setsockopt, &[(1, INT, bits(libc::SOL_SOCKET))]),
    (libc::SYS_setsockopt, &[(1, INT, bits(libc::SOL_NETLINK))]),
    (libc::SYS_ioctl, &[(1, INT, libc::FIONBIO)]),
    (libc::SYS_ioctl, &[(1, INT, libc::SIOCETHTOOL)]),
    // Not F_SETOWN and F_SETSIG, which signal other processes.
    (libc::SYS_fcntl, &[(1, INT, bits(libc::F_DUPFD_CLOEXEC))]),
    (libc::SYS_fcntl, &[(1, INT, bits(libc::F_GETFL))]),
    // Memory is never executable, so that no code can be brought in.
    (libc::SYS_mmap, &NOT_EXECUTABLE),
    (libc::SYS_mprotect, &NOT_EXECUTABLE),
    (libc::SYS_clone, &[(0, INT, THREAD)]),
    (libc::SYS_prctl, &[(0, INT, bits(libc::PR_SET_NAME))]),
];

/// System calls of the process that loads modules.
const LOADER: [libc::c_long; 16] = [
    // `modules.dep`, `/sys/module`, the socket, and the message of a panic.
    libc::SYS_close,
    libc::SYS_openat,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_statx,
    libc::SYS_write,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // The child that loads, and its successors.
    libc::SYS_set_robust_list,
    libc::SYS_wait4,
    // The end.
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
];

/// Flags of `fork`.
const FORK: u64 = bits(libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD);

const LOADER_CONDITIONAL: [(libc::c_long, &[Condition]); 5] = [
    (libc::SYS_clone, &[(0, INT, FORK)]),
    (libc::SYS_sendto, &[(4, POINTER, 0)]),
    // With no flag, or that of a compressed module.
    (libc::SYS_finit_module, &[(2, INT ^ COMPRESSED, 0)]),
    (libc::SYS_mmap, &NOT_EXECUTABLE),
    (libc::SYS_mprotect, &NOT_EXECUTABLE),
];

pub(super) const fn bits(value: libc::c_int) -> u64 {
    value.unsigned_abs() as u64
}

const fn netlink(protocol: libc::c_int) -> [Condition; 3] {
    [
        (0, INT, bits(libc::AF_NETLINK)),
        (1, TYPE, bits(libc::SOCK_DGRAM)),
        (2, INT, bits(protocol)),
    ]
}

/// System calls of the supervisor, which starts agents, and with them those that an agent makes before it gives
/// up its privileges.
const SUPERVISOR: [libc::c_long; 17] = [
    // Start and end of a process.
    libc::SYS_execve,
    libc::SYS_geteuid,
    libc::SYS_kill,
    libc::SYS_prlimit64,
    libc::SYS_set_tid_address,
    libc::SYS_setpriority,
    libc::SYS_tgkill,
    libc::SYS_wait4,
    // Namespaces, the lock of the undo logs, and the vsock port.
    libc::SYS_flock,
    libc::SYS_fstatfs,
    libc::SYS_listen,
    libc::SYS_pipe2,
    libc::SYS_socketpair,
    // The limits of agent and loader.
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_seccomp,
];

/// All flags of `clone` that make a namespace.
const NAMESPACES: u64 = bits(
    libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP,
);

const SUPERVISOR_CONDITIONAL: [(libc::c_long, &[Condition]); 10] = [
    (libc::SYS_clone, &[(0, NAMESPACES, 0)]),
    // Network namespaces only.
    (libc::SYS_setns, &[(1, INT, bits(libc::CLONE_NEWNET))]),
    (libc::SYS_socket, &[(0, INT, bits(libc::AF_VSOCK))]),
    (libc::SYS_fcntl, &[(1, INT, bits(libc::F_GETFD))]),
    (libc::SYS_fcntl, &[(1, INT, bits(libc::F_SETFD))]),
    (libc::SYS_prctl, &[(0, INT, bits(libc::PR_CAPBSET_READ))]),
    (libc::SYS_prctl, &[(0, INT, bits(libc::PR_CAPBSET_DROP))]),
    (libc::SYS_prctl, &[(0, INT, bits(libc::PR_CAP_AMBIENT))]),
    (
        libc::SYS_prctl,
        &[(0, INT, bits(libc::PR_SET_NO_NEW_PRIVS))],
    ),
    (libc::SYS_prctl, &[(0, INT, bits(libc::PR_SET_SECCOMP))]),
];

/// Denies all system calls outside of the profile's list in this thread and its children.
///
/// # Errors
/// The kernel lacks `CONFIG_SECCOMP_FILTER`.
pub(super) fn install(profile: Profile) -> Result<(), Error> {
    // First, because the list denies the installation of another filter.
    seccompiler::apply_filter(&without_clone3()?)?;
    Ok(seccompiler::apply_filter(&list(profile)?)?)
}

/// Returns the calls that are allowed with all arguments.
pub(super) fn calls(profile: Profile) -> Vec<libc::c_long> {
    match profile {
        Profile::Agent => [&AGENT[..], &by_architecture::AGENT].concat(),
        Profile::Loader => LOADER.to_vec(),
        Profile::Supervisor => [
            &AGENT[..],
            &by_architecture::AGENT,
            &LOADER,
            &SUPERVISOR,
            &by_architecture::SUPERVISOR,
        ]
        .concat(),
    }
}

fn conditional(profile: Profile) -> Vec<(libc::c_long, &'static [Condition])> {
    match profile {
        Profile::Agent => AGENT_CONDITIONAL.to_vec(),
        Profile::Loader => LOADER_CONDITIONAL.to_vec(),
        Profile::Supervisor => [
            &AGENT_CONDITIONAL[..],
            &LOADER_CONDITIONAL,
            &SUPERVISOR_CONDITIONAL,
        ]
        .concat(),
    }
}

fn list(profile: Profile) -> Result<BpfProgram, Error> {
    let calls = calls(profile);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        calls.iter().map(|call| (*call, Vec::new())).collect();
    // An abort signals its own thread.
    let own = (
        libc::SYS_tgkill,
        &[(0, INT, u64::from(std::process::id()))][..],
    );
    for (call, conditions) in conditional(profile).iter().chain([&own]) {
        if !calls.contains(call) {
            rules.entry(*call).or_default().push(rule(conditions)?);
        }
    }
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    compile(rules, denied, SeccompAction::Allow)
}

fn without_clone3() -> Result<BpfProgram, Error> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    compile(rules, SeccompAction::Allow, missing)
}

fn rule(conditions: &[Condition]) -> Result<SeccompRule, BackendError> {
    let conditions = conditions.iter().map(|(argument, mask, value)| {
        let compared = SeccompCmpOp::MaskedEq(*mask);
        SeccompCondition::new(*argument, SeccompCmpArgLen::Qword, compared, *value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, Error> {
    let filter = SeccompFilter::new(rules, otherwise, matching, ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}
