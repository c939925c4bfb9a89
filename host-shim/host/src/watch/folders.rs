//! Notifications of the folders in which sandboxes are registered.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// Maximum number of folders of sandboxes; the kernel allows a user 8192 watches and more.
const MAX_FOLDERS: usize = 4096;
/// Maximum number of notifications that are read at once.
const MAX_READ: usize = 4096;
const BUFFER_BYTES: usize = 4096;

/// inotify descriptor with its watches.
#[derive(Debug)]
pub(crate) struct Folders {
    inotify: OwnedFd,
    watches: HashMap<i32, Interest>,
}

/// Entries of a folder whose changes matter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Interest {
    /// All but hidden ones, and hidden ones of these names.
    All(HashSet<OsString>),
    /// Those of these names.
    Names(HashSet<OsString>),
}

impl Interest {
    fn all() -> Self {
        Self::All(HashSet::new())
    }

    fn includes(&self, name: &OsStr) -> bool {
        match self {
            Self::All(hidden) => !name.as_bytes().starts_with(b".") || hidden.contains(name),
            Self::Names(names) => names.contains(name),
        }
    }

    fn merge(&mut self, other: Self) {
        let (is_all, more) = match other {
            Self::All(hidden) => (true, hidden),
            Self::Names(names) => (false, names),
        };
        let (Self::All(names) | Self::Names(names)) = &mut *self;
        names.extend(more);
        if let (true, Self::Names(names)) = (is_all, &mut *self) {
            *self = Self::All(std::mem::take(names));
        }
    }
}

impl Folders {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            watches: HashMap::new(),
        })
    }

    /// Watches the folders, the folders in them, and single files. A missing folder is awaited in the
    /// nearest one that exists.
    pub(crate) fn set(&mut self, folders: &[PathBuf], files: &[PathBuf]) -> io::Result<()> {
        let mut wanted = HashMap::new();
        for folder in folders {
            self.add(&mut wanted, folder, Interest::all())?;
            for below in subfolders(folder) {
                self.add(&mut wanted, &below, Interest::all())?;
            }
        }
        for file in files {
            if let (Some(folder), Some(name)) = (file.parent(), file.file_name()) {
                let names = HashSet::from([name.to_owned()]);
                self.add(&mut wanted, folder, Interest::Names(names))?;
            }
        }
        for earlier in self.watches.keys() {
            if !wanted.contains_key(earlier) {
                // Fails for a folder that was removed.
                let _ = inotify::remove_watch(&self.inotify, *earlier);
            }
        }
        self.watches = wanted;
        Ok(())
    }

    fn add(
        &self,
        wanted: &mut HashMap<i32, Interest>,
        folder: &Path,
        interest: Interest,
    ) -> io::Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ONLYDIR;
        let (mut folder, mut interest) = (folder, interest);
        loop {
            match inotify::add_watch(&self.inotify, folder, flags) {
                Ok(watch) => {
                    wanted
                        .entry(watch)
                        .and_modify(|own| own.merge(interest.clone()))
                        .or_insert(interest);
                    return Ok(());
                }
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
                    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
                        return Ok(());
                    };
                    interest = Interest::Names(HashSet::from([name.to_owned()]));
                    folder = parent;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads the notifications that have come. Returns whether sandboxes can have appeared or ended.
    pub(crate) fn drain(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut is_relevant = false;
        for _ in 0..MAX_READ {
            let Ok(event) = reader.next() else {
                break;
            };
            let name = event
                .file_name()
                .map(|name| OsStr::from_bytes(name.to_bytes()));
            let interest = self.watches.get(&event.wd());
            // That of a watch which was removed on purpose is for none that is known.
            let is_ended = event.events().contains(ReadFlags::IGNORED) && interest.is_some();
            is_relevant |= is_ended
                || event.events().contains(ReadFlags::QUEUE_OVERFLOW)
                || name
                    .zip(interest)
                    .is_some_and(|(name, interest)| interest.includes(name));
        }
        is_relevant
    }
}

impl AsFd for Folders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Lists the folders in a folder, except hidden ones.
fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        is_folder && Interest::all().includes(&entry.file_name())
    });
    folders
        .map(|entry| entry.path())
        .take(MAX_FOLDERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_report_sandboxes_that_appear_change_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let (run, kata) = (dir.path().join("run"), dir.path().join("kata/vc/sbs"));
        let netns = dir.path().join("netns");
        fs::create_dir_all(&run).unwrap();
        fs::create_dir_all(&netns).unwrap();
        let file = netns.join("blue");
        fs::write(&file, "").unwrap();
        let mut folders = Folders::new().unwrap();
        let set = |folders: &mut Folders| {
            folders
                .set(&[run.clone(), kata.clone()], std::slice::from_ref(&file))
                .unwrap();
        };
        set(&mut folders);
        assert!(!folders.drain());
        // Commands write there, and nothing of it is a sandbox.
        fs::create_dir_all(run.join(".machines/1-2")).unwrap();
        fs::write(netns.join("red"), "").unwrap();
        fs::write(dir.path().join("other"), "").unwrap();
        assert!(!folders.drain());
        let changes: [&dyn Fn() -> io::Result<()>; 7] = [
            &|| fs::create_dir(run.join("vm1")),
            &|| fs::write(run.join("vm1/sandbox.json"), "{}"),
            &|| fs::create_dir(dir.path().join("kata")),
            &|| fs::create_dir_all(dir.path().join("kata/vc/sbs/6ec7")),
            &|| fs::write(kata.join("6ec7/persist.json"), "{}"),
            &|| fs::remove_dir_all(run.join("vm1")),
            &|| fs::remove_file(&file),
        ];
        for (number, change) in changes.iter().enumerate() {
            change().unwrap();
            assert!(folders.drain(), "change {number}");
            set(&mut folders);
            assert!(!folders.drain(), "change {number}");
        }
    }

    #[test]
    fn folders_report_a_hidden_one_that_is_awaited() {
        let dir = tempfile::tempdir().unwrap();
        let hidden = dir.path().join(".machines/1-2");
        let mut folders = Folders::new().unwrap();
        let watched = [dir.path().to_owned(), hidden.clone()];
        folders.set(&watched, &[]).unwrap();
        fs::create_dir(dir.path().join(".other")).unwrap();
        assert!(!folders.drain());
        for change in [hidden.parent().unwrap(), &hidden, &hidden.join("card")] {
            fs::create_dir(change).unwrap();
            assert!(folders.drain(), "{}", change.display());
            folders.set(&watched, &[]).unwrap();
        }
    }
}
