//! Agents in other network namespaces of the guest.
//!
//! A supervisor process, started before the agent gives up its privileges, opens a namespace and starts
//! another agent there, which serves the host on a separate port: its netlink sockets and its files
//! below `/proc` are those of that namespace. The agent sends the supervisor a line with a number and a process
//! id or a path, and gets the number, an errno (0 for success) and a port, four bytes each. The supervisor ends
//! with the agent, and the others with the supervisor.

mod supervisor;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use patchbay_types::GuestNetns;
use patchbay_types::failure::{Failure, Kind};

pub use supervisor::{Settings, supervise};

/// First argument of the supervisor, before those of the agent.
pub const OPTION: &str = "--namespaces";

/// Socket of the supervisor in the folder of helpers.
const SOCKET: &str = "namespaces";
/// Timeout for the supervisor, which starts one agent at a time.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// The agent's end of the supervisor.
#[derive(Debug)]
pub struct Namespaces(Mutex<Connection>);

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    /// Number of the last request.
    number: u32,
}

impl Connection {
    fn request(&mut self, netns: &GuestNetns) -> io::Result<Report> {
        self.number = self.number.wrapping_add(1);
        let line = format!("{} {netns}\n", self.number);
        self.stream.write_all(line.as_bytes())?;
        loop {
            let mut number = [0; 4];
            self.stream.read_exact(&mut number)?;
            let report = Report::read(&self.stream)?;
            // Others are late replies to requests that have timed out.
            if u32::from_le_bytes(number) == self.number {
                return Ok(report);
            }
        }
    }
}

impl Namespaces {
    /// Starts the supervisor. `args` are those of the agent.
    ///
    /// # Errors
    /// `/proc` is not mounted, or the process can't be started.
    pub fn start(args: &[String]) -> io::Result<Self> {
        let (agent, supervisor) = UnixStream::pair()?;
        Command::new("/proc/self/exe")
            .arg0("patchbay-namespaces")
            .arg(OPTION)
            .args(args)
            .stdin(OwnedFd::from(supervisor))
            .spawn()?;
        Self::of(agent)
    }

    /// Connects to the socket in this folder on which the service manager starts the supervisor.
    ///
    /// # Errors
    /// There is no such socket, or nothing listens on it.
    pub fn connect(helpers: &Path) -> io::Result<Self> {
        Self::of(UnixStream::connect(helpers.join(SOCKET))?)
    }

    fn of(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self(Mutex::new(Connection { stream, number: 0 })))
    }

    /// Starts an agent in a namespace, unless it has one, and returns its vsock port.
    ///
    /// # Errors
    /// There is no such namespace, or the kernel refuses it.
    pub fn enter(&self, netns: &GuestNetns) -> Result<u32, Failure> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let report = connection.request(netns).map_err(|error| {
            Failure::of_io("the process that enters network namespaces failed", &error)
        })?;
        report.0.map_err(|errno| {
            let (kind, reason) = match errno {
                Errno::ENOENT | Errno::ESRCH => (Kind::NotFound, "it doesn't exist"),
                Errno::EINVAL => (Kind::Invalid, "it is not a network namespace"),
                Errno::EAGAIN => (Kind::NotYet, "too many namespaces are in use"),
                Errno::EAFNOSUPPORT => (Kind::Unsupported, "the guest has no vsock"),
                other => (Kind::from_errno(other as i32), other.desc()),
            };
            Failure::new(
                kind,
                format!("could not enter the network namespace {netns} of the guest"),
            )
            .with_cause(reason)
            .with_errno(errno as i32)
        })
    }
}

/// Result of entering a namespace: the port of its agent.
struct Report(Result<u32, Errno>);

impl Report {
    fn read(mut stream: &UnixStream) -> io::Result<Self> {
        let (mut errno, mut port) = ([0; 4], [0; 4]);
        stream.read_exact(&mut errno)?;
        stream.read_exact(&mut port)?;
        Ok(Self(match i32::from_le_bytes(errno) {
            0 => Ok(u32::from_le_bytes(port)),
            errno => Err(Errno::from_raw(errno)),
        }))
    }

    fn bytes(&self) -> [[u8; 4]; 2] {
        let errno = self.0.err().map_or(0, |errno| errno as i32);
        let port = self.0.unwrap_or_default();
        [errno.to_le_bytes(), port.to_le_bytes()]
    }
}

/// Enters the namespace of this process, if it has one, and reports that to the supervisor.
///
/// # Errors
/// The kernel refuses the namespace, or the supervisor has ended.
pub fn enter(netns: &Path, port: io::Result<u32>) -> io::Result<()> {
    let entered = port.and_then(|port| {
        setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
        Ok(port)
    });
    let errno = |error: &io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let report = Report(entered.as_ref().copied().map_err(errno));
    supervisor_stream()?.write_all(report.bytes().as_flattened())?;
    entered.map(drop)
}

/// Ends this process when the supervisor ends. Privileges must have been given up before: each thread has
/// its own.
///
/// # Errors
/// No thread can be started.
pub fn end_with_supervisor() -> io::Result<()> {
    let stream = supervisor_stream()?;
    stream.set_read_timeout(None)?;
    thread::Builder::new().spawn(move || {
        let _ = (&stream).read(&mut [0]);
        std::process::exit(1);
    })?;
    Ok(())
}

/// Socket to the process that has started this one.
fn supervisor_stream() -> io::Result<UnixStream> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_skips_late_replies_to_other_requests() {
        let (agent, mut supervisor) = UnixStream::pair().unwrap();
        let namespaces = Namespaces::of(agent).unwrap();
        for (number, port) in [(0_u32, 1060_u32), (77, 1070), (1, 1080)] {
            let reply = [number, 0, port].map(u32::to_le_bytes);
            supervisor.write_all(reply.as_flattened()).unwrap();
        }
        let netns = "/run/netns/b".parse().unwrap();
        assert_eq!(namespaces.enter(&netns).unwrap(), 1080);
        let mut line = [0; 15];
        supervisor.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"1 /run/netns/b\n");
    }
}
