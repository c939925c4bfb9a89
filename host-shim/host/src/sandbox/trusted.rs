//! Files and folders whose contents are believed.
//!
//! A path is walked from `/`, one component at a time and without following links, so that nothing can be
//! exchanged between a check and its use. Root or the caller must own each component, and no other user
//! may be able to write to it; in a sticky folder such as `/tmp` others can't replace an entry that is
//! not theirs. A link is followed only where root or the caller made it in such a folder: `/var/run` is
//! one on Debian.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{self, Component, Path, PathBuf};

use nix::unistd::geteuid;
use patchbay_types::failure::{Failure, Kind};
use rustix::fs::{FileType, Mode, OFlags, Stat};

/// Maximum number of links in a path, as the kernel's.
const MAX_LINKS: usize = 40;
const STICKY: u32 = 0o1000;
const OTHERS_CAN_WRITE: u32 = 0o022;

/// Regular file or folder that was found.
#[derive(Debug)]
pub(super) struct Node {
    /// Opened with `O_PATH`.
    fd: OwnedFd,
    kind: FileType,
}

impl Node {
    /// Finds a file or folder; `None` if it doesn't exist.
    ///
    /// # Errors
    /// [`Kind::Denied`] if another user than root and the caller can change it.
    pub(super) fn find(path: &Path) -> Result<Option<Self>, Failure> {
        match walk(path) {
            Ok(node) => Ok(Some(node)),
            Err(Untrusted::Unusable(error)) if is_absent(&error) => Ok(None),
            Err(Untrusted::Unusable(error)) => Err(unreadable(path, &error)),
            Err(Untrusted::Owned(part, rule)) => Err(untrusted(&part, rule)),
        }
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    pub(super) fn is_folder(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Opens a regular file or a folder for reading.
    pub(super) fn open(&self) -> io::Result<File> {
        let mut options = File::options();
        let options = options.read(true).custom_flags(libc::O_NONBLOCK);
        options.open(self.own_path())
    }

    /// Lists the names in a folder.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let entries = fs::read_dir(self.own_path())?;
        entries.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn own_path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }
}

/// Reason not to believe a path.
enum Untrusted {
    Unusable(io::Error),
    /// Part of the path, and the rule that it breaks.
    Owned(PathBuf, &'static str),
}

impl From<rustix::io::Errno> for Untrusted {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Unusable(errno.into())
    }
}

const OWNER: &str = "root or the caller must own it";
const WRITABLE: &str = "no other user may have write access to it";

/// Returns the failure to read a file or folder.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Failure::new(Kind::Denied, format!("{path} is not readable: run as root"))
        }
        _ => Failure::of_io(format!("could not read {path}"), error),
    }
}

fn untrusted(part: &Path, rule: &str) -> Failure {
    let message = format!("{} is not trusted: {rule}", part.display());
    Failure::new(Kind::Denied, message)
        .with_cause("correct its owner and mode, or run patchbay as the user that owns it")
}

fn walk(path: &Path) -> Result<Node, Untrusted> {
    let path = path::absolute(path).map_err(Untrusted::Unusable)?;
    let mut shown = PathBuf::from("/");
    let mut node = check(rustix::fs::open("/", OPEN, Mode::empty())?, &shown)?;
    let mut rest = components(&path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        let fd = rustix::fs::openat(&node.fd, &name, OPEN, Mode::empty())?;
        let part = shown.join(&name);
        let found = check(fd, &part)?;
        if found.kind != FileType::Symlink {
            (node, shown) = (found, part);
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(rustix::io::Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(&found.fd, "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            shown = PathBuf::from("/");
            node = check(rustix::fs::open("/", OPEN, Mode::empty())?, &shown)?;
        }
        rest.extend(components(&target));
    }
    Ok(node)
}

const OPEN: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Returns the components below the root in reverse order.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().rev();
    let below = names.filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    below.map(|part| part.as_os_str().to_owned()).collect()
}

fn check(fd: OwnedFd, part: &Path) -> Result<Node, Untrusted> {
    let stat = rustix::fs::fstat(&fd)?;
    match broken_rule(&stat, geteuid().as_raw()) {
        Some(rule) => Err(Untrusted::Owned(part.to_owned(), rule)),
        None => Ok(Node {
            kind: FileType::from_raw_mode(stat.st_mode),
            fd,
        }),
    }
}

/// Returns the rule that a file or folder breaks for this caller.
fn broken_rule(stat: &Stat, caller: u32) -> Option<&'static str> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_protected = match kind {
        // The mode of a link means nothing.
        FileType::Symlink => true,
        FileType::Directory if stat.st_mode & STICKY != 0 => true,
        _ => stat.st_mode & OTHERS_CAN_WRITE == 0,
    };
    match stat.st_uid {
        owner if owner != 0 && owner != caller => Some(OWNER),
        _ if !is_protected => Some(WRITABLE),
        _ => None,
    }
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    /// User without rights.
    const NOBODY: u32 = 65534;

    /// Returns the failure to find `run/id/file.json` after a change of the tree.
    fn after(change: impl FnOnce(&Path)) -> Result<(), Failure> {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run/id");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file.json"), "{}").unwrap();
        change(dir.path());
        let path = folder.join("file.json");
        let found = Node::find(&path)?.expect("the file exists");
        assert!(found.is_file());
        assert_eq!(io::read_to_string(found.open().unwrap()).unwrap(), "{}");
        Ok(())
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[track_caller]
    fn assert_untrusted(change: impl FnOnce(&Path), part: &str, rule: &str) {
        let failure = after(change).unwrap_err();
        assert_eq!(failure.kind(), Kind::Denied);
        let expected = format!("{part} is not trusted: {rule}");
        assert!(failure.to_string().ends_with(&expected), "{failure}");
    }

    #[test]
    fn find_file_or_folder_of_another_user_fails() {
        after(|_| ()).unwrap();
        for part in ["run", "run/id", "run/id/file.json"] {
            let give = |root: &Path| chown(root.join(part), Some(NOBODY), None).unwrap();
            assert_untrusted(give, part, OWNER);
            for writable in [0o720, 0o702] {
                let open = |root: &Path| mode(&root.join(part), writable);
                assert_untrusted(open, part, WRITABLE);
            }
        }
        // As `/tmp`.
        after(|root| mode(&root.join("run"), 0o1777)).unwrap();
    }

    #[test]
    fn find_follows_links_of_trusted_users_only() {
        let link = |root: &Path| {
            fs::rename(root.join("run"), root.join("moved")).unwrap();
            symlink("moved", root.join("run")).unwrap();
        };
        after(link).unwrap();
        let absolute = |root: &Path| {
            link(root);
            fs::remove_file(root.join("run")).unwrap();
            symlink(root.join("run/../moved"), root.join("run2")).unwrap();
            symlink(root.join("moved"), root.join("run")).unwrap();
        };
        after(absolute).unwrap();
        let given = |root: &Path| {
            link(root);
            lchown(root.join("run"), Some(NOBODY), None).unwrap();
        };
        assert_untrusted(given, "run", OWNER);
        let led_away = |root: &Path| {
            link(root);
            chown(root.join("moved"), Some(NOBODY), None).unwrap();
        };
        assert_untrusted(led_away, "moved", OWNER);
        let endless = |root: &Path| {
            fs::rename(root.join("run"), root.join("moved")).unwrap();
            symlink("run", root.join("run")).unwrap();
        };
        assert!(
            after(endless)
                .unwrap_err()
                .to_string()
                .starts_with("could not read")
        );
    }

    #[test]
    fn find_missing_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Node::find(&dir.path().join("a/b")).unwrap().is_none());
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(Node::find(&dir.path().join("file/b")).unwrap().is_none());
    }
}
