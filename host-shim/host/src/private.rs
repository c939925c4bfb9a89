//! Creation of files and folders that other users can't change, whatever the umask is.
//!
//! The umask of a caller can make a folder writable for everybody, or a file unusable for its owner, so
//! each mode is set after the creation. No function follows a link in the last component of its path.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::unistd::geteuid;

/// Mode of a folder that others can read.
pub const LISTED: u32 = 0o755;
/// Mode of a folder for its owner alone.
pub const OWN: u32 = 0o700;
const FILE: u32 = 0o600;

/// Creates a folder with this mode, and its missing ancestors with [`LISTED`]. One that exists keeps its
/// mode.
///
/// # Errors
/// Those of the file system.
pub fn create_folder(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().ok_or(error)?;
            create_folder(parent, LISTED)?;
            create_folder(path, mode)
        }
        Err(error) => Err(error),
    }
}

/// Creates a file for its owner alone.
///
/// # Errors
/// A file or link that exists, and those of the file system.
pub fn create_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let options = options.read(true).write(true).create_new(true).mode(FILE);
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE))?;
    Ok(file)
}

/// Opens a lock file, and creates it if it is missing. Others can't open it, because a shared lock needs no
/// more than read access.
///
/// # Errors
/// A link or another kind of file, and those of the file system.
pub fn open_lock(path: &Path) -> io::Result<File> {
    open_or_create(path, File::options().read(true))
}

/// Opens a file of the caller's for reading and writing, and creates it if it is missing.
///
/// # Errors
/// A link or another kind of file, and those of the file system.
pub fn open_file(path: &Path) -> io::Result<File> {
    open_or_create(path, File::options().read(true).write(true))
}

fn open_or_create(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    match create_file(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created,
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = options.custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // Earlier releases created it with other modes.
    if metadata.mode() & 0o777 != FILE && metadata.uid() == geteuid().as_raw() {
        file.set_permissions(Permissions::from_mode(FILE))?;
    }
    Ok(file)
}

/// Replaces a file atomically and durably. The extension `new` is that of the unfinished file, which is
/// removed after a failure.
///
/// # Errors
/// Those of the file system; the file is unchanged then, unless only its name could not be made durable.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let write = || {
        remove(&unfinished)?;
        let mut file = create_file(&unfinished)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(path.parent().unwrap_or(path))?.sync_all()
    };
    write().inspect_err(|_| {
        // The first failure is reported.
        let _ = remove(&unfinished);
    })
}

/// Extension of a file whose writing has not finished.
pub(crate) const UNFINISHED: &str = "new";

/// Removes a file that need not exist.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn created_files_and_folders_have_their_modes_under_any_umask() {
        // The mask of other tests stays: nextest runs each in its own process.
        for mask in [0, 0o777] {
            let dir = tempfile::tempdir().unwrap();
            let [folder, own, file, lock] =
                ["a/b", "own", "file", "lock"].map(|name| dir.path().join(name));
            let mask = nix::sys::stat::Mode::from_bits_truncate(mask);
            let earlier = nix::sys::stat::umask(mask);
            create_folder(&folder, LISTED).unwrap();
            create_folder(&own, OWN).unwrap();
            create_file(&file).unwrap();
            open_lock(&lock).unwrap();
            replace(&file, b"new").unwrap();
            nix::sys::stat::umask(earlier);
            assert_eq!(
                (mode(&folder), mode(folder.parent().unwrap())),
                (LISTED, LISTED)
            );
            assert_eq!(mode(&own), OWN);
            assert_eq!((mode(&file), mode(&lock)), (FILE, FILE));
            assert_eq!(fs::read(&file).unwrap(), b"new");
        }
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let [secret, link] = ["secret", "link"].map(|name| dir.path().join(name));
        fs::write(&secret, "secret").unwrap();
        symlink(&secret, &link).unwrap();
        let failure = create_file(&link).unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::AlreadyExists);
        for open in [open_lock, open_file] {
            let failure = open(&link).unwrap_err();
            assert_eq!(failure.raw_os_error(), Some(libc::ELOOP));
        }
        fs::rename(&link, dir.path().join("file.new")).unwrap();
        replace(&dir.path().join("file.json"), b"{}").unwrap();
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
        assert_eq!(mode(&dir.path().join("file.json")), FILE);
    }

    #[test]
    fn open_lock_restricts_the_mode_of_an_earlier_release() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join(".lock");
        fs::write(&lock, "").unwrap();
        fs::set_permissions(&lock, Permissions::from_mode(0o644)).unwrap();
        open_lock(&lock).unwrap();
        assert_eq!(mode(&lock), FILE);
    }
}
