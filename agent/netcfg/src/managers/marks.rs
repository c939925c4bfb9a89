//! Marks of cards for the guest's udev.
//!
//! A mark is an empty file that is named after the MAC address of a card. It exists before the card
//! appears, because managers act at the card's first event. A rule of udev finds it, and sets the
//! properties by which managers exclude the card.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use patchbay_types::MacAddr;

/// Lifetime of a mark without a card; longer than any wait for a card.
const LIFETIME: Duration = Duration::from_secs(600);

/// Folder of the marks. It must be on tmpfs, since a card need not outlive a reboot.
#[derive(Debug, Clone)]
pub struct CardMarks(PathBuf);

impl CardMarks {
    /// Uses an existing folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Adds a mark, and removes old ones of cards that are gone.
    pub(crate) fn add(&self, mac: MacAddr, present: impl Fn(MacAddr) -> bool) -> io::Result<()> {
        File::create(self.0.join(mac.to_string()))?;
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(marked) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A clock that was set back makes the age unknown.
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age > LIFETIME && !present(marked) {
                remove(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Removes a file that a concurrent request may have removed.
fn remove(path: PathBuf) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr::try_from([2, 0, 0, 0, 0xab, last]).unwrap()
    }

    #[test]
    fn add_removes_only_old_marks_of_absent_cards() {
        let dir = tempfile::tempdir().unwrap();
        let marks = CardMarks::at(dir.path());
        let old = SystemTime::now() - LIFETIME - Duration::from_secs(1);
        for (name, age) in [
            ("02:00:00:00:ab:01", Some(old)),
            ("02:00:00:00:ab:02", Some(old)),
            ("02:00:00:00:ab:03", None),
            ("notes", Some(old)),
        ] {
            let file = File::create(dir.path().join(name)).unwrap();
            age.map_or(Ok(()), |age| file.set_modified(age)).unwrap();
        }
        marks.add(mac(4), |other| other == mac(1)).unwrap();
        marks.add(mac(4), |_| true).unwrap();
        let entries = fs::read_dir(dir.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let kept = [
            "02:00:00:00:ab:01",
            "02:00:00:00:ab:03",
            "02:00:00:00:ab:04",
            "notes",
        ];
        assert_eq!(names, kept);
    }

    #[test]
    fn add_without_folder_fails() {
        let error = CardMarks::at("/nonexistent").add(mac(1), |_| true);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
