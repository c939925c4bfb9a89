//! Attempts of code that has taken over the agent to become more than the agent.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, sendto, socket};
use patchbay_agent::config::Invocation;
use patchbay_agent::privileges::{self, Profile};

/// Gives up the agent's privileges, and prints the name and the errno of each attempt, 0 for success.
pub(crate) fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let Invocation::Serve(config) = Invocation::parse(arguments.iter().cloned())? else {
        return Err("the agent does not serve".into());
    };
    let own = config.undo_log.as_deref().and_then(Path::parent);
    let own = own.map(|folder| folder.join("intruder"));
    // The attempts must not fail because of a missing file.
    let module = first_module(Path::new("/lib/modules")).ok_or("no module")?;
    let lacking = |error: &privileges::Error| println!("lacking {error}");
    privileges::confine(Profile::Agent, &config.folders(), lacking)?;
    files(&module, own);
    calls();
    Ok(())
}

fn files(module: &Path, own: Option<PathBuf>) {
    let opened = |path: &str| OpenOptions::new().write(true).open(path).map(drop);
    report(
        "set ip_forward",
        fs::write("/proc/sys/net/ipv4/ip_forward", "0"),
    );
    report("list processes", fs::read_dir("/proc").map(drop));
    if let Some(own) = own {
        report("create own file", fs::write(&own, "x"));
        report("remove own file", fs::remove_file(&own));
    }
    report(
        "set core_pattern",
        fs::write("/proc/sys/kernel/core_pattern", "core"),
    );
    report("write memory", opened("/proc/self/mem"));
    report("write sysrq", opened("/proc/sysrq-trigger"));
    report("rescan PCI", opened("/sys/bus/pci/rescan"));
    report("write program", opened("/bin/ipvsadm"));
    report("create program", fs::write("/tmp/intruder", "x"));
    report("write console", opened("/dev/console"));
    report("read module", File::open(module).map(drop));
    report("read program", File::open("/bin/ipvsadm").map(drop));
}

fn calls() {
    let io = |result: nix::Result<()>| result.map_err(io::Error::from);
    let kind = SockType::Datagram;
    let udp = socket(AddressFamily::Inet, kind, SockFlag::empty(), None);
    report(
        "open UDP socket",
        io(udp.as_ref().map(drop).map_err(|errno| *errno)),
    );
    if let Ok(udp) = &udp {
        use std::os::fd::AsRawFd as _;
        let there = SockaddrIn::new(127, 0, 0, 1, 9);
        let sent = sendto(udp.as_raw_fd(), b"x", &there, MsgFlags::empty());
        report("send UDP", io(sent.map(drop)));
        let connected = nix::sys::socket::connect(udp.as_raw_fd(), &there);
        report("connect UDP", io(connected));
    }
    report(
        "connect TCP",
        std::net::TcpStream::connect("127.0.0.1:7").map(drop),
    );
    let unix = std::os::unix::net::UnixStream::connect("/run/intruder");
    report("connect Unix", unix.map(drop));
    report(
        "run program",
        std::process::Command::new("/bin/true").status().map(drop),
    );
    report(
        "new namespace",
        io(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)),
    );
    report("signal init", call(libc::SYS_kill, [1, 0, 0, 0, 0, 0]));
    report("trace init", call(libc::SYS_ptrace, [16, 1, 0, 0, 0, 0]));
    report("fork", call(libc::SYS_clone, [17, 0, 0, 0, 0, 0]));
    report("load module", call(libc::SYS_finit_module, [0; 6]));
    report("load image", call(libc::SYS_init_module, [0; 6]));
    report("become root", call(libc::SYS_setuid, [0; 6]));
    report(
        "map W+X",
        call(libc::SYS_mmap, [0, 4096, 7, 0x22, u64::MAX, 0]),
    );
    report(
        "protect W+X",
        call(libc::SYS_mprotect, [0, 4096, 7, 0, 0, 0]),
    );
    report("map file", call(libc::SYS_memfd_create, [0; 6]));
}

/// Finds a file of a module.
fn first_module(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return first_module(&path);
        }
        let name = path.file_name()?.to_str()?;
        name.contains(".ko").then_some(path)
    })
}

#[expect(unsafe_code, reason = "calls that no library makes")]
fn call(number: libc::c_long, with: [u64; 6]) -> io::Result<()> {
    // SAFETY: the filter denies these calls, and their arguments refer to no memory of this process.
    let result =
        unsafe { libc::syscall(number, with[0], with[1], with[2], with[3], with[4], with[5]) };
    Ok(Errno::result(result).map(drop)?)
}

fn report(name: &str, result: io::Result<()>) {
    let errno = match result {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    };
    // Standard output stays usable; a failure to print ends the test.
    let _ = writeln!(io::stdout(), "{name}: {errno}");
}
