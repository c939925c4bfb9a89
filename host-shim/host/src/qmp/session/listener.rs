//! Process that listens on the monitor's socket.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;

use super::Error;

/// Checks that another user than the one of the machine hasn't bound the socket: its process would get the
/// descriptors of TAP devices.
pub(super) fn check_user(stream: &UnixStream, path: &Path) -> Result<(), Error> {
    let user = getsockopt(stream, PeerCredentials)
        .map_err(io::Error::from)?
        .uid();
    let folder = path.canonicalize()?;
    let owner = fs::metadata(folder.parent().unwrap_or(&folder))?.uid();
    if [0, geteuid().as_raw(), owner].contains(&user) {
        return Ok(());
    }
    let path = path.to_owned();
    Err(Error::Foreign { path, user })
}

/// Returns the process id; `None` if it is not visible in this PID namespace.
pub(super) fn process(stream: &UnixStream) -> Option<u32> {
    let credentials = getsockopt(stream, PeerCredentials).ok()?;
    let pid = u32::try_from(credentials.pid()).ok()?;
    (pid > 0).then_some(pid)
}

/// # Errors
/// [`Error::Stopped`] for a process that is stopped by a signal or a debugger.
pub(super) fn check_scheduled(pid: u32) -> Result<(), Error> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, can contain parentheses and spaces.
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    if state.is_some_and(|state| state.starts_with(['T', 't'])) {
        return Err(Error::Stopped { pid });
    }
    Ok(())
}
