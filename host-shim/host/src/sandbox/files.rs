//! Bounded reading of the JSON files and folders in run directories.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use patchbay_types::failure::{Failure, Kind};
use serde::de::DeserializeOwned;

use super::id::SandboxId;
use super::trusted::{Node, unreadable};
use crate::json;

/// Maximum size of a file. The OCI specification of a container with a long environment has some
/// hundred kB.
pub(super) const MAX_BYTES: u64 = 4 << 20;

/// Returns the folders that contain the folders of other programs. Without any given, they are `/` and the
/// runtime directory of the calling user. For root that is `/` alone: after `su` or `sudo -E` the variable
/// has the folder of another user.
pub(super) fn roots(given: &[PathBuf]) -> Vec<PathBuf> {
    if !given.is_empty() {
        return given.to_owned();
    }
    let rootless = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let rootless = rootless.filter(|folder| folder.is_absolute() && !geteuid().is_root());
    [PathBuf::from("/")].into_iter().chain(rootless).collect()
}

/// Lists the entries of a folder whose names are ids, sorted; a missing folder has none.
///
/// # Errors
/// A folder that can't be read, because the uniqueness of a prefix would be unknown, or that another
/// user can change.
pub fn ids(folder: &Path) -> Result<Vec<SandboxId>, Failure> {
    let mut ids = Vec::new();
    for name in names(folder)? {
        ids.extend(name.to_str().and_then(|name| name.parse().ok()));
    }
    ids.sort();
    Ok(ids)
}

/// Lists the names in a folder; a missing one has none.
pub(super) fn names(folder: &Path) -> Result<Vec<OsString>, Failure> {
    let found = Node::find(folder)?.filter(Node::is_folder);
    let names = found.map_or(Ok(Vec::new()), |folder| folder.names());
    names.map_err(|error| unreadable(folder, &error))
}

/// Returns whether a file or folder exists. Without the caller's access to its folder that is unknown,
/// and a sandbox that exists must not be reported as missing.
///
/// # Errors
/// [`Kind::Denied`], also for one that another user can change.
pub(super) fn exists(path: &Path) -> Result<bool, Failure> {
    Ok(Node::find(path)?.is_some())
}

/// Checks that no other user than root and the caller can change a folder; one that is missing passes.
///
/// # Errors
/// [`Kind::Denied`].
pub fn check_trusted(folder: &Path) -> Result<(), Failure> {
    Node::find(folder).map(drop)
}

/// Returns whether a folder exists.
///
/// # Errors
/// Those of [`exists`].
pub(super) fn is_folder(path: &Path) -> Result<bool, Failure> {
    Ok(Node::find(path)?.is_some_and(|node| node.is_folder()))
}

/// Reads a JSON document.
///
/// # Errors
/// A file that can't be read, is not a regular file, is too large, has unexpected contents or can be
/// changed by another user; the message names it.
pub(super) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let absent = || unreadable(path, &io::Error::from_raw_os_error(libc::ENOENT));
    json_if_exists(path)?.ok_or_else(absent)
}

/// Reads a JSON document; `None` if the file does not exist.
///
/// # Errors
/// As for [`SandboxFile::read`](super::SandboxFile::read).
pub fn json_if_exists<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let Some(bytes) = bytes_if_exists(path)? else {
        return Ok(None);
    };
    let read = json::object(&bytes).map_err(|error| invalid(path, &error.to_string()));
    read.map(Some)
}

/// Reads a file whose contents are believed; `None` if it does not exist.
///
/// # Errors
/// As for [`SandboxFile::read`](super::SandboxFile::read), except for the contents.
pub fn bytes_if_exists(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let Some(node) = Node::find(path)? else {
        return Ok(None);
    };
    // Opening a FIFO would block until its other end is opened.
    if !node.is_file() {
        return Err(invalid(path, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    node.open()
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(invalid(path, "it is larger than 4 MiB"));
    }
    Ok(Some(bytes))
}

/// Returns the failure to read a file that has another form than expected.
#[must_use]
pub fn invalid(path: &Path, cause: &str) -> Failure {
    let message = format!("could not read {}", path.display());
    Failure::new(Kind::Invalid, message).with_cause(cause)
}

/// Checks a path from a file; an empty one means none.
///
/// # Errors
/// A relative path, which would depend on the caller's working directory.
pub(super) fn absolute(
    path: Option<PathBuf>,
    file: &Path,
    field: &str,
) -> Result<Option<PathBuf>, Failure> {
    match path.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) if !path.is_absolute() => {
            let (file, path) = (file.display(), path.display());
            let message = format!("{field} in {file} is not an absolute path: '{path}'");
            Err(Failure::new(Kind::Invalid, message).with_field(field))
        }
        path => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn cause(path: &Path) -> String {
        let failure = json::<serde_json::Value>(path).unwrap_err();
        assert!(failure.to_string().contains(path.to_str().unwrap()));
        failure.chain().collect()
    }

    #[test]
    fn json_irregular_file_fails_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cause(dir.path()), "it is not a regular file");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(cause(&fifo), "it is not a regular file");
    }

    #[test]
    fn json_oversized_file_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("persist.json");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(cause(&path), "it is larger than 4 MiB");
        file.set_len(MAX_BYTES).unwrap();
        assert!(cause(&path).contains("expected value"));
    }

    #[test]
    fn absolute_relative_path_is_rejected() {
        let path = |text: &str| absolute(Some(text.into()), Path::new("/f"), "NetworkID");
        assert_eq!(path("/run/netns/a").unwrap(), Some("/run/netns/a".into()));
        assert_eq!(path("").unwrap(), None);
        let failure = path("../netns/a\n").unwrap_err();
        assert_eq!(failure.field(), Some("NetworkID"));
        assert_eq!(
            failure.to_string(),
            "NetworkID in /f is not an absolute path: '../netns/a\u{fffd}'"
        );
    }
}
