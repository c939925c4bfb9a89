//! Tests in threads of this process, which stays unconfined.

use std::process::Command;
use std::thread;

use nix::errno::Errno;
use patchbay_netcfg::privilege::BindPrivilege;

use super::seccomp::{THREAD, bits};
use super::*;

/// Runs `work` confined, in a thread that keeps the test process unconfined.
fn confined<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        drop_capabilities(Profile::Agent).unwrap();
        seccomp::install(Profile::Agent).unwrap();
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
    let has = || caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_BIND_SERVICE).unwrap();
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
    let kept = Capability::CAP_NET_ADMIN.bitmask();
    let on_demand = kept | Capability::CAP_NET_BIND_SERVICE.bitmask();
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

/// Calls and arguments that the filter denies although it allows the number.
const DENIED: [(&str, libc::c_long, [u64; 5]); 22] = [
    (
        "socket of the Unix family",
        libc::SYS_socket,
        [bits(libc::AF_UNIX), STREAM, 0, 0, 0],
    ),
    (
        "socket of vsock",
        libc::SYS_socket,
        [bits(libc::AF_VSOCK), STREAM, 0, 0, 0],
    ),
    (
        "socket of TCP",
        libc::SYS_socket,
        [bits(libc::AF_INET), STREAM, 0, 0, 0],
    ),
    (
        "raw socket",
        libc::SYS_socket,
        [bits(libc::AF_INET), bits(libc::SOCK_RAW), 1, 0, 0],
    ),
    (
        "socket of IPv6",
        libc::SYS_socket,
        [bits(libc::AF_INET6), DATAGRAM, 0, 0, 0],
    ),
    (
        "socket of packets",
        libc::SYS_socket,
        [bits(libc::AF_PACKET), DATAGRAM, 0, 0, 0],
    ),
    (
        "netlink of the audit",
        libc::SYS_socket,
        [bits(libc::AF_NETLINK), DATAGRAM, 9, 0, 0],
    ),
    (
        "sendto with an address",
        libc::SYS_sendto,
        [BAD, 0, 0, 0, 4096],
    ),
    ("setsockopt of IP", libc::SYS_setsockopt, [BAD, 0, 0, 0, 0]),
    (
        "setsockopt of IPv6",
        libc::SYS_setsockopt,
        [BAD, bits(libc::IPPROTO_IPV6), 0, 0, 0],
    ),
    (
        "ioctl of a terminal",
        libc::SYS_ioctl,
        [BAD, libc::TIOCSTI, 0, 0, 0],
    ),
    (
        "ioctl of a link",
        libc::SYS_ioctl,
        [BAD, libc::SIOCSIFFLAGS, 0, 0, 0],
    ),
    (
        "fcntl that signals",
        libc::SYS_fcntl,
        [BAD, bits(libc::F_SETOWN), 1, 0, 0],
    ),
    (
        "fcntl of another signal",
        libc::SYS_fcntl,
        [BAD, 10, 9, 0, 0],
    ),
    (
        "executable mapping",
        libc::SYS_mmap,
        [0, 4096, RWX, bits(libc::MAP_PRIVATE), BAD],
    ),
    (
        "executable memory",
        libc::SYS_mprotect,
        [0, 4096, RWX, 0, 0],
    ),
    (
        "clone of a process",
        libc::SYS_clone,
        [bits(libc::SIGCHLD), 0, 0, 0, 0],
    ),
    (
        "clone of a namespace",
        libc::SYS_clone,
        [THREAD | bits(libc::CLONE_NEWUSER), 0, 0, 0, 0],
    ),
    (
        "prctl of the dumps",
        libc::SYS_prctl,
        [bits(libc::PR_SET_DUMPABLE), 0, 0, 0, 0],
    ),
    (
        "prctl of a filter",
        libc::SYS_prctl,
        [bits(libc::PR_SET_SECCOMP), 2, 0, 0, 0],
    ),
    (
        "prctl of capabilities",
        libc::SYS_prctl,
        [bits(libc::PR_CAP_AMBIENT), 9, 9, 0, 0],
    ),
    ("signal to process 1", libc::SYS_tgkill, [1, 1, 0, 0, 0]),
];

const STREAM: u64 = bits(libc::SOCK_STREAM);
const DATAGRAM: u64 = bits(libc::SOCK_DGRAM);
const RWX: u64 = bits(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
/// No descriptor and no address, so that a call that is not denied has no effect.
const BAD: u64 = u64::MAX;
/// Numbers of the kernel's table end below; x32 calls have bit 30.
const NUMBERS: std::ops::Range<libc::c_long> = 0..1024;
const X32: libc::c_long = 1 << 30;

/// `uretprobe` and `uprobe`: the kernel asks no filter, and kills a caller outside of the trampoline.
const UNFILTERED: [libc::c_long; 2] = [335, 336];

/// Returns the error of a system call, 0 without one.
fn errno_of(number: libc::c_long, with: [u64; 5]) -> i32 {
    #[expect(unsafe_code, reason = "calls by number")]
    // SAFETY: the arguments are invalid as addresses, and the filter denies calls without arguments.
    let result = unsafe { libc::syscall(number, with[0], with[1], with[2], with[3], with[4], BAD) };
    match Errno::result(result) {
        Ok(_) => 0,
        Err(errno) => errno as i32,
    }
}

fn allowed_anyhow(number: libc::c_long, profile: Profile) -> bool {
    seccomp::calls(profile).contains(&number)
}

fn allowed_with_some_arguments(number: libc::c_long) -> bool {
    number == libc::SYS_tgkill || DENIED.iter().any(|(_, known, _)| *known == number)
}

#[test]
fn every_call_outside_of_the_list_is_denied() {
    let denied = confined(|| {
        // Without a filter, the calls below would be made.
        assert_eq!(errno_of(libc::SYS_getppid, [0; 5]), libc::EPERM);
        let numbers = NUMBERS.chain(NUMBERS.map(|number| number | X32));
        let others = numbers.filter(|number| {
            !UNFILTERED.contains(&(number & !X32))
                && !allowed_anyhow(*number, Profile::Agent)
                && !allowed_with_some_arguments(*number)
        });
        let errors = others.map(|number| (number, errno_of(number, [BAD; 5])));
        errors.collect::<Vec<_>>()
    });
    let allowed: Vec<_> = denied
        .iter()
        .filter(|(_, errno)| *errno != libc::EPERM)
        .collect();
    assert_eq!(allowed, [] as [&(i64, i32); 0]);
    // 45 calls with all arguments, ten with some.
    assert_eq!(denied.len(), 2 * (1024 - UNFILTERED.len()) - 45 - 10);
}

#[test]
fn call_with_other_arguments_is_denied() {
    let errors =
        confined(|| DENIED.map(|(name, number, arguments)| (name, errno_of(number, arguments))));
    assert_eq!(errors, DENIED.map(|(name, ..)| (name, libc::EPERM)));
}

#[test]
fn clone3_is_missing_and_threads_start() {
    let started = confined(|| {
        let errno = errno_of(libc::SYS_clone3, [BAD, 0, 0, 0, 0]);
        (errno, thread::spawn(|| 7).join().unwrap())
    });
    assert_eq!(started, (libc::ENOSYS, 7));
}

/// Calls that no change of the lists may allow.
#[test]
fn lists_have_no_dangerous_call() {
    for profile in [Profile::Agent, Profile::Loader] {
        for number in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_init_module,
            libc::SYS_connect,
            libc::SYS_sendmsg,
            libc::SYS_sendmmsg,
            libc::SYS_kill,
            libc::SYS_memfd_create,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_open_by_handle_at,
        ] {
            assert!(!allowed_anyhow(number, profile), "{number} of {profile:?}");
            assert!(!allowed_with_some_arguments(number), "{number}");
        }
    }
}
