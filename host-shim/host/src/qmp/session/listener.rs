//! Process that listens on the monitor's socket.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{self, Path};

use nix::errno::Errno;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;

use super::Error;

/// Maximum number of links in a path, as the kernel's.
const MAX_LINKS: u32 = 40;

/// Checks that another user than the one of the machine hasn't bound the socket: its process would get the
/// descriptors of TAP devices.
pub(super) fn check_user(stream: &UnixStream, path: &Path) -> Result<(), Error> {
    let user = getsockopt(stream, PeerCredentials)
        .map_err(io::Error::from)?
        .uid();
    let allowed = [0, geteuid().as_raw()];
    let maker = maker_of_link(&path::absolute(path)?, MAX_LINKS)?;
    let foreign = match maker {
        None if allowed.contains(&user) || user == owner_of_folder(path)? => return Ok(()),
        None => user,
        Some(maker) => maker,
    };
    let path = path.to_owned();
    Err(Error::Foreign {
        path,
        user: foreign,
    })
}

fn owner_of_folder(path: &Path) -> io::Result<u32> {
    let path = path.canonicalize()?;
    Ok(fs::metadata(path.parent().unwrap_or(&path))?.uid())
}

/// Finds a link in a path that neither root nor the caller has made, and returns its owner: it could lead to a
/// folder of that user.
fn maker_of_link(path: &Path, links_left: u32) -> io::Result<Option<u32>> {
    for part in path.ancestors() {
        let found = fs::symlink_metadata(part)?;
        if !found.is_symlink() {
            continue;
        }
        if ![0, geteuid().as_raw()].contains(&found.uid()) {
            return Ok(Some(found.uid()));
        }
        let links_left = links_left.checked_sub(1).ok_or(Errno::ELOOP)?;
        let target = part.parent().unwrap_or(part).join(fs::read_link(part)?);
        if let Some(maker) = maker_of_link(&target, links_left)? {
            return Ok(Some(maker));
        }
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    const OTHER: u32 = 65_534;

    #[test]
    fn maker_of_link_is_another_user_than_root_and_the_caller() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let maker = |name: &str| maker_of_link(&path(name), MAX_LINKS).unwrap();
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("folder/socket"), "").unwrap();
        symlink("folder", path("own")).unwrap();
        symlink("folder", path("foreign")).unwrap();
        symlink("foreign/socket", path("own-to-foreign")).unwrap();
        lchown(path("foreign"), Some(OTHER), None).unwrap();
        assert_eq!(maker("folder/socket"), None);
        assert_eq!(maker("own/socket"), None);
        assert_eq!(maker("foreign/socket"), Some(OTHER));
        assert_eq!(maker("own-to-foreign"), Some(OTHER));
        symlink("loop", path("loop")).unwrap();
        let error = maker_of_link(&path("loop"), MAX_LINKS).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }
}
