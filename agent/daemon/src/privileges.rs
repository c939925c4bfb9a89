//! Privileges of the agent: two capabilities, a third on demand, and the system calls that it and its
//! libraries use.
//!
//! They bound the damage of a bug that a container exploits (docs/decisions/0005).

use std::collections::BTreeMap;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// `CAP_NET_ADMIN` for netlink; `CAP_SYS_MODULE` because IPVS, its schedulers and conntrack are loaded
/// on demand, at any time.
const KEPT: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_SYS_MODULE];

/// Permitted, but effective only while a sync daemon is started ([`BindPrivilege`]).
///
/// [`BindPrivilege`]: patchbay_netcfg::privilege::BindPrivilege
const ON_DEMAND: Capability = Capability::CAP_NET_BIND_SERVICE;

/// Socket families: Unix and vsock for the host, netlink, and `AF_INET` for ethtool's ioctl.
const SOCKET_FAMILIES: [libc::c_int; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_NETLINK,
    libc::AF_VSOCK,
];

/// System calls of the agent, its runtime and the C library. All others fail with EPERM, among them
/// `execve`, `mount` and `ptrace`.
const SYSCALLS: [libc::c_long; 86] = [
    // Files: /proc, /sys, modules, the console.
    libc::SYS_access,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_finit_module,
    libc::SYS_fstat,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_stat,
    libc::SYS_statx,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Sockets; `socket` itself depends on SOCKET_FAMILIES.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_ioctl,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // Waiting.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_pipe2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory and threads.
    libc::SYS_arch_prctl,
    libc::SYS_brk,
    // Raises a permitted capability in one thread.
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_uname,
];

/// Privileges that could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A capability can't be dropped.
    #[error("could not drop capabilities")]
    Capabilities(#[from] caps::errors::CapsError),
    /// `PR_SET_NO_NEW_PRIVS` failed.
    #[error("could not set no_new_privs")]
    NewPrivileges(#[from] nix::Error),
    /// The filter can't be compiled.
    #[error("could not compile the seccomp filter")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel has no seccomp filters, or rejects this one.
    #[error("could not install the seccomp filter")]
    Install(#[from] seccompiler::Error),
}

/// Halfway from the default 0 to -20: containers can keep every CPU busy.
const NICE: libc::c_int = -10;

/// Raises the scheduling priority above that of containers. Without `CAP_SYS_NICE` the priority stays
/// as it is.
pub fn raise_priority() {
    #[expect(unsafe_code, reason = "nix does not wrap setpriority")]
    // SAFETY: takes and returns integers only; 0 is this thread, whose children inherit the value.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Exempts the agent from the OOM killer. An agent that a process of the guest can have killed is not
/// there for the host.
///
/// # Errors
/// Lowering the value needs `CAP_SYS_RESOURCE`.
pub fn exempt_from_oom_killer() -> std::io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_MIN)
}

/// `OOM_SCORE_ADJ_MIN` (`linux/oom.h`).
const OOM_SCORE_MIN: &str = "-1000";

/// Drops all capabilities but `CAP_NET_ADMIN`, `CAP_SYS_MODULE` and, which stays permitted only,
/// `CAP_NET_BIND_SERVICE`, in this thread and its children.
///
/// # Errors
/// Dropping from the bounding set needs `CAP_SETPCAP`.
pub fn drop_capabilities() -> Result<(), Error> {
    prctl::set_no_new_privs()?;
    let kept = CapsHashSet::from(KEPT);
    let mut bounding = kept.clone();
    bounding.insert(ON_DEMAND);
    let all = caps::read(None, CapSet::Bounding)?;
    for capability in all.difference(&bounding) {
        caps::drop(None, CapSet::Bounding, *capability)?;
    }
    let permitted = caps::read(None, CapSet::Permitted)?;
    let of = |set: &CapsHashSet| set.intersection(&permitted).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &of(&kept))?;
    caps::set(None, CapSet::Permitted, &of(&bounding))?;
    Ok(())
}

/// Denies all system calls outside of the allowlist in this thread and its children.
///
/// # Errors
/// The kernel lacks `CONFIG_SECCOMP_FILTER`.
pub fn install_seccomp() -> Result<(), Error> {
    Ok(seccompiler::apply_filter(&program()?)?)
}

fn program() -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        SYSCALLS.iter().map(|call| (*call, Vec::new())).collect();
    let families: Result<Vec<SeccompRule>, seccompiler::BackendError> = SOCKET_FAMILIES
        .iter()
        .map(|family| {
            let family = u64::from(family.unsigned_abs());
            let first = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family);
            SeccompRule::new(vec![first?])
        })
        .collect();
    rules.insert(libc::SYS_socket, families?);
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use patchbay_netcfg::privilege::BindPrivilege;

    use super::*;

    /// Runs `work` confined, in a thread that keeps the test process unconfined.
    fn confined<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = thread::spawn(|| {
            drop_capabilities().unwrap();
            install_seccomp().unwrap();
            work()
        });
        thread.join().unwrap()
    }

    #[test]
    fn confined_thread_cannot_execute_programs() {
        let errno = confined(|| Command::new("/bin/true").status().unwrap_err());
        assert_eq!(errno.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn confined_thread_is_denied_other_calls() {
        let denied = confined(|| {
            let mounted = nix::mount::mount(
                None::<&str>,
                "/",
                None::<&str>,
                nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE,
                None::<&str>,
            );
            let packet = nix::sys::socket::socket(
                nix::sys::socket::AddressFamily::Packet,
                nix::sys::socket::SockType::Raw,
                nix::sys::socket::SockFlag::empty(),
                None,
            );
            let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
            [mounted, packet.map(drop), unshared]
        });
        assert_eq!(denied, [Err(nix::errno::Errno::EPERM); 3]);
    }

    #[test]
    fn confined_thread_has_bind_privilege_on_demand() {
        let has = || caps::has_cap(None, CapSet::Effective, ON_DEMAND).unwrap();
        let seen = confined(move || {
            let before = has();
            let during = {
                let _privilege = BindPrivilege::raise();
                has()
            };
            let raised = caps::raise(None, CapSet::Effective, Capability::CAP_SYS_ADMIN);
            (before, during, has(), raised.is_ok())
        });
        assert_eq!(seen, (false, true, false, false));
    }

    #[test]
    fn confined_thread_keeps_files_and_netlink() {
        let (status, socket) = confined(|| {
            let status = std::fs::read_to_string("/proc/thread-self/status");
            (status.unwrap(), netlink_sys::Socket::new(0).map(drop))
        });
        let line = |name| status.lines().find_map(|line| line.strip_prefix(name));
        let bits = |name| u64::from_str_radix(line(name).unwrap().trim(), 16).unwrap();
        let kept = KEPT.iter().map(Capability::bitmask).sum::<u64>();
        let on_demand = kept | ON_DEMAND.bitmask();
        for (set, allowed) in [
            ("CapEff:", kept),
            ("CapPrm:", on_demand),
            ("CapBnd:", on_demand),
        ] {
            assert_eq!(bits(set) & !allowed, 0, "{set} of {status}");
        }
        assert_eq!(line("NoNewPrivs:").map(str::trim), Some("1"));
        assert_eq!(line("Seccomp:").map(str::trim), Some("2"));
        socket.unwrap();
    }
}
