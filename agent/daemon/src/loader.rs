//! Process that loads kernel modules for the agent.
//!
//! The agent starts it before it gives up its privileges. `CAP_SYS_MODULE` is thus out of reach of code that
//! takes over the agent: it can choose from a fixed list of modules, and can't add another one. The
//! process ends with the agent. It serves in a child, and replaces one that was killed: the agent could not start
//! another process.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use patchbay_netcfg::modules::{self, Loader, Modules};

use crate::privileges::{self, Access, Profile};

/// First argument of the process.
pub const OPTION: &str = "--load-modules";
/// Name in lists of processes.
const NAME: &std::ffi::CStr = c"patchbay-module";

/// Error that ends the process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket failed, or carried something else than indexes.
    #[error("could not serve the agent")]
    Socket(#[from] io::Error),
    /// Privileges could not be given up.
    #[error(transparent)]
    Privileges(#[from] privileges::Error),
}

/// Socket of the process in the folder of helpers.
const SOCKET: &str = "modules";

/// Starts the process. `helpers` is the folder of the sockets on which the service manager does so.
///
/// # Errors
/// `/proc` is not mounted, or the process can't be started.
pub fn start(helpers: Option<&Path>) -> io::Result<Loader> {
    if let Some(folder) = helpers {
        return Loader::process(UnixStream::connect(folder.join(SOCKET))?);
    }
    let (agent, loader) = UnixStream::pair()?;
    Command::new("/proc/self/exe")
        .arg0("patchbay-modules")
        .arg(OPTION)
        .stdin(OwnedFd::from(loader))
        .spawn()?;
    Loader::process(agent)
}

/// Serves the agent until it ends.
///
/// # Errors
/// The socket fails, or privileges can't be given up.
pub fn run() -> Result<(), Error> {
    prctl::set_name(NAME).map_err(io::Error::from)?;
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let modules = Modules::default();
    // The agent has reported the limits that the kernel lacks.
    let files = [(modules.folder().to_owned(), Access::Read)];
    privileges::confine(Profile::Loader, &files, |_| {})?;
    while let ForkResult::Parent { child } = fork_alone()? {
        match waitpid(child, None).map_err(io::Error::from)? {
            WaitStatus::Signaled(..) => modules::announce_successor(&stream)?,
            _ => return Ok(()),
        }
    }
    Ok(modules::serve(&stream, &modules)?)
}

#[expect(unsafe_code, reason = "no library forks without a program")]
fn fork_alone() -> io::Result<ForkResult> {
    // SAFETY: this process has one thread, so that the child finds no lock of another one.
    Ok(unsafe { fork() }?)
}
