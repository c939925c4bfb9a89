//! Reading what others keep in run directories: bounded, and believed only so far.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use patchbay_types::failure::{Failure, Kind};
use serde::de::DeserializeOwned;

use super::id::Id;

/// Largest file that is read, in bytes: a container's specification with a long environment has
/// some hundred kB.
const MAX_FILE: u64 = 4 << 20;

/// The entries of a folder whose names are ids, sorted. A folder that is not there has none.
///
/// # Errors
/// A folder that can't be read: whether a prefix is unique can't be told then.
pub(super) fn ids(folder: &Path) -> Result<Vec<Id>, Failure> {
    let unreadable = |error: &io::Error| {
        io_failure(
            format!("could not read the folder {}", folder.display()),
            error,
        )
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| unreadable(&error))?.file_name();
        ids.extend(name.to_str().and_then(|name| Id::parse(name).ok()));
    }
    ids.sort();
    Ok(ids)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The JSON document in a file.
///
/// # Errors
/// A file that can't be read, is no plain file, is too large, or holds something else; each names it.
pub(super) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let sentence = || format!("could not read {}", path.display());
    let invalid = |cause: String| Failure::new(Kind::Invalid, sentence()).with_cause(cause);
    let unreadable = |error| io_failure(sentence(), &error);
    // Opening a FIFO would wait for its other end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(invalid("it is no plain file".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(invalid("it is larger than 4 MiB".to_owned()));
    }
    serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))
}

/// The same, where no such file is no error.
pub(super) fn json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    match fs::metadata(path) {
        Err(error) if is_absent(&error) => Ok(None),
        _ => json(path).map(Some),
    }
}

/// A path out of such a file. An empty one says that there is none.
///
/// # Errors
/// A relative path, which would depend on where we were called.
pub(super) fn absolute(
    path: Option<PathBuf>,
    file: &Path,
    field: &str,
) -> Result<Option<PathBuf>, Failure> {
    match path.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) if !path.is_absolute() => {
            let sentence = format!(
                "{field} in {} is no absolute path: '{}'",
                file.display(),
                path.display().to_string().escape_debug()
            );
            Err(Failure::new(Kind::Invalid, sentence).with_field(field))
        }
        path => Ok(path),
    }
}

/// A failed system call on a file, told in one sentence.
pub(super) fn io_failure(sentence: String, error: &io::Error) -> Failure {
    let kind = error.raw_os_error().map_or(Kind::Other, Kind::from_errno);
    Failure::new(kind, sentence).with_cause(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(path: &Path) -> String {
        let failure = json::<serde_json::Value>(path).unwrap_err();
        assert!(failure.to_string().contains(path.to_str().unwrap()));
        failure.chain().collect()
    }

    #[test]
    fn a_file_that_is_none_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cause(dir.path()), "it is no plain file");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(cause(&fifo), "it is no plain file");
    }

    #[test]
    fn a_file_without_end_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("persist.json");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_FILE + 1).unwrap();
        assert_eq!(cause(&path), "it is larger than 4 MiB");
        file.set_len(MAX_FILE).unwrap();
        assert!(cause(&path).contains("expected value"));
    }

    #[test]
    fn a_relative_path_is_refused_by_its_field() {
        let path = |text: &str| absolute(Some(text.into()), Path::new("/f"), "NetworkID");
        assert_eq!(path("/run/netns/a").unwrap(), Some("/run/netns/a".into()));
        assert_eq!(path("").unwrap(), None);
        let failure = path("../netns/a\n").unwrap_err();
        assert_eq!(failure.field(), Some("NetworkID"));
        assert_eq!(
            failure.to_string(),
            "NetworkID in /f is no absolute path: '../netns/a\\n'"
        );
    }
}
