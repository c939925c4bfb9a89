//! Supervisor of the agents of other network namespaces.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::statfs::{FsType, fstatfs};
use patchbay_types::GuestNetns;

use super::{Report, supervisor_stream};
use crate::config::Config;
use crate::log::LogLevel;

/// Name of the supervisor in lists of processes.
const NAME: &std::ffi::CStr = c"patchbay-netns";
/// `NSFS_MAGIC` of `linux/magic.h`.
const NSFS: FsType = FsType(0x6e73_6673);
/// Maximum number of namespaces with an agent.
const MAX_AGENTS: usize = 16;
/// Timeout for an agent to enter its namespace.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Part of the names of undo logs before the inode of their namespace.
const LOG_INFIX: &str = ".netns-";
/// Maximum length of the number of a request, and the space behind it.
const NUMBER_BYTES: u64 = 11;

/// Agent in a namespace.
struct NetnsAgent {
    netns: File,
    inode: u64,
    port: u32,
    child: Child,
    stream: UnixStream,
}

impl NetnsAgent {
    fn start(netns: File, settings: &Settings) -> Result<Self, Errno> {
        let io = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        let inode = netns.metadata().map_err(io)?.ino();
        let (stream, its) = UnixStream::pair().map_err(io)?;
        stream.set_read_timeout(Some(START_TIMEOUT)).map_err(io)?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("patchbay-netns")
            .args(["--listen", "vsock:any", "--netns", &path])
            .args(["--log-level", &settings.log_level.to_string()]);
        if let Some(log) = &settings.undo_log {
            command.arg("--undo-log").arg(log_of(log, inode));
        }
        let mut child = command.stdin(OwnedFd::from(its)).spawn().map_err(io)?;
        let port = Report::read(&stream)
            .map_err(io)
            .and_then(|report| report.0);
        let port = port.inspect_err(|_| {
            // It has ended, or is of no use.
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Self {
            netns,
            inode,
            port,
            child,
            stream,
        })
    }
}

fn log_of(log: &Path, inode: u64) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(format!("{LOG_INFIX}{inode}"));
    path.into()
}

/// Settings of the agents of namespaces.
#[derive(Debug)]
pub struct Settings {
    /// Path of the undo log of the first agent, from which theirs derive.
    pub undo_log: Option<PathBuf>,
    /// Level of their logs.
    pub log_level: LogLevel,
}

impl From<Config> for Settings {
    fn from(config: Config) -> Self {
        Self {
            undo_log: config.undo_log,
            log_level: config.log_level,
        }
    }
}

/// Starts and watches the agents of namespaces.
struct Supervisor {
    settings: Settings,
    agents: Vec<NetnsAgent>,
}

/// Serves the agent until it ends.
///
/// # Errors
/// The socket fails.
pub fn supervise(settings: Settings) -> io::Result<()> {
    prctl::set_name(NAME)?;
    let undo_log = settings.undo_log.as_deref();
    undo_log.map(wait_for_former).transpose()?;
    let mut supervisor = Supervisor {
        settings,
        agents: Vec::new(),
    };
    supervisor.recover();
    let stream = supervisor_stream()?;
    let mut requests = BufReader::new(&stream).take(0);
    loop {
        if supervisor.wait(&stream)? {
            requests.set_limit(NUMBER_BYTES + GuestNetns::MAX_BYTES + 1);
            let mut line = String::new();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let request = line.trim_end_matches('\n').split_once(' ');
            let request =
                request.and_then(|(number, netns)| Some((number.parse::<u32>().ok()?, netns)));
            let (number, netns) = request.ok_or(io::ErrorKind::InvalidData)?;
            let [errno, port] = Report(supervisor.enter(netns)).bytes();
            (&stream).write_all([number.to_le_bytes(), errno, port].as_flattened())?;
        }
        supervisor.reap();
    }
}

/// Waits until the agents of a former supervisor have ended: each inherits the lock of its supervisor.
fn wait_for_former(undo_log: &Path) -> io::Result<()> {
    let mut path = undo_log.as_os_str().to_owned();
    path.push(".namespaces");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(path)?;
    fcntl(&lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    // Dropped, it would be unlocked for the agents too.
    std::mem::forget(lock);
    Ok(())
}

impl Supervisor {
    /// Waits for a request or the end of an agent; returns whether there is a request.
    fn wait(&self, stream: &UnixStream) -> io::Result<bool> {
        let streams = self.agents.iter().map(|agent| &agent.stream);
        let all = std::iter::once(stream).chain(streams);
        let mut fds: Vec<_> = all
            .map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
            Ok(_) => Ok(fds.first().and_then(PollFd::any).unwrap_or_default()),
        }
    }

    fn enter(&mut self, netns: &str) -> Result<u32, Errno> {
        let netns: GuestNetns = netns.parse().map_err(|_| Errno::EINVAL)?;
        let file = open(&netns.path())?;
        let inode = file.metadata().map_err(|_| Errno::EIO)?.ino();
        self.reap();
        if let Some(agent) = self.agents.iter().find(|agent| agent.inode == inode) {
            return Ok(agent.port);
        }
        if self.agents.len() >= MAX_AGENTS {
            return Err(Errno::EAGAIN);
        }
        let agent = NetnsAgent::start(file, &self.settings)?;
        let port = agent.port;
        self.agents.push(agent);
        Ok(port)
    }

    /// Removes agents that have ended. One that was killed is started again, to undo what it has begun.
    fn reap(&mut self) {
        for mut agent in std::mem::take(&mut self.agents) {
            match agent.child.try_wait() {
                Ok(None) => self.agents.push(agent),
                Ok(Some(status)) if status.success() => {}
                _ => self.restart(agent.netns, agent.inode),
            }
        }
    }

    fn restart(&mut self, netns: File, inode: u64) {
        let left = logs(self.settings.undo_log.as_deref());
        if left.iter().any(|(_, of)| *of == inode) {
            self.agents.extend(NetnsAgent::start(netns, &self.settings));
        }
    }

    /// Starts an agent in each namespace in which a killed one has left an undo log.
    fn recover(&mut self) {
        let mut logs = logs(self.settings.undo_log.as_deref());
        logs.sort_by_key(|(_, inode)| *inode);
        for group in logs.chunk_by(|(_, a), (_, b)| a == b) {
            let Some((_, inode)) = group.first() else {
                continue;
            };
            match find(*inode) {
                Some(netns) => self.restart(netns, *inode),
                // The namespace has ended, with all its rules.
                None => group
                    .iter()
                    .for_each(|(path, _)| drop(fs::remove_file(path))),
            }
        }
    }
}

/// Opens a network namespace. Without blocking: the file can be a pipe.
fn open(path: &Path) -> Result<File, Errno> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    match fstatfs(&file) {
        Ok(found) if found.filesystem_type() == NSFS => Ok(file),
        _ => Err(Errno::EINVAL),
    }
}

/// Returns the undo logs of namespaces with their inodes.
fn logs(log: Option<&Path>) -> Vec<(PathBuf, u64)> {
    let Some((folder, name)) = log.and_then(|log| log.parent().zip(log.file_name())) else {
        return Vec::new();
    };
    let prefix = format!("{}{LOG_INFIX}", name.display());
    let inode = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix(&prefix)?;
        let inode = name.split('.').next()?.parse().ok()?;
        Some((path, inode))
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| inode(entry.path())).collect()
}

/// Finds a namespace by its inode, among those of processes and the named ones.
fn find(inode: u64) -> Option<File> {
    let entries = |folder| fs::read_dir(folder).into_iter().flatten().flatten();
    let processes = entries("/proc").map(|entry| entry.path().join("ns/net"));
    let named = entries("/run/netns").map(|entry| entry.path());
    let is_it = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.ino() == inode);
    processes
        .chain(named)
        .filter(is_it)
        .find_map(|path| open(&path).ok())
}
