//! What neither QEMU nor the guest can tell: which host device a card came from, how that was
//! before, and whether an operation is in flight.
//!
//! One small file per card, replaced atomically and synced before the first command that it
//! covers. A file that does not say "plugged" was left by a process that died: the next change of
//! the sandbox clears that card away before it does its own work.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use patchbay_types::IfName;
use patchbay_types::failure::{Failure, Kind};
use serde::{Deserialize, Serialize};

use super::files::{self, io_failure};
use crate::card::Listener;

/// Where a card's operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Begun; what of it was done is to be read from QEMU.
    Adding,
    /// Done.
    Plugged,
    /// To be finished.
    Removing,
}

/// How an existing TAP was before it was used; it gets that back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTapState {
    /// Bytes.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
}

/// One card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    pub phase: Phase,
    /// Its name in the guest.
    #[serde(with = "text")]
    pub name: IfName,
    /// The host's device, as the operator calls it.
    #[serde(with = "text")]
    pub device: IfName,
    /// Name of this attempt: part of every id that the monitor gets to know.
    pub attempt: String,
    /// Descriptors that were given to the monitor for it.
    pub fds: Vec<String>,
    /// What is behind it on the host.
    pub behind: Behind,
}

/// What is behind a card on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behind {
    /// A TAP that was made for the card and ends with its last descriptor.
    OwnTap,
    /// A TAP that existed, and how it was.
    ExistingTap(SavedTapState),
    /// The socket of a vhost-user backend: QEMU forgets the path of one that it has connected to.
    VhostUser(PathBuf, Listener),
}

impl Card {
    /// What the ids of all our devices begin with.
    pub const DEVICE_PREFIX: &str = "pbd.";

    /// QEMU's id of the device.
    pub fn device_id(name: &IfName) -> String {
        format!("{}{name}", Self::DEVICE_PREFIX)
    }

    /// QEMU's id of the backend: fresh for each attempt, because a failed `netdev_add` can leave a
    /// ghost that burns its id.
    pub fn netdev_id(&self) -> String {
        format!("{}{}", Self::netdev_prefix(&self.name), self.attempt)
    }

    /// QEMU's id of the character device of a vhost-user card.
    pub fn chardev_id(&self) -> String {
        format!("pbc.{}.{}", self.name, self.attempt)
    }

    /// The socket of a vhost-user card, and who listens on it.
    pub fn socket(&self) -> Option<(&Path, Listener)> {
        match &self.behind {
            Behind::OwnTap | Behind::ExistingTap(_) => None,
            Behind::VhostUser(socket, listener) => Some((socket, *listener)),
        }
    }

    /// What the ids of all backends of this card begin with; the attempt follows.
    pub fn netdev_prefix(name: &IfName) -> String {
        format!("pbn.{name}.")
    }
}

/// [`IfName`] as JSON text.
mod text {
    use patchbay_types::IfName;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(name: &IfName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<IfName, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// What a file is called until it is whole.
const BEGUN: &str = "new";

/// The journal of one sandbox.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
}

impl Journal {
    /// The one in the sandbox's state directory.
    pub fn at(state: &Path) -> Self {
        Self {
            dir: state.join("cards"),
        }
    }

    /// Every card that is known. A file that can't be read is an error that names it: what it
    /// knew is then for the operator to clear.
    pub fn cards(&self) -> Result<Vec<Card>, Failure> {
        let mut cards = Vec::new();
        for path in self.files()? {
            // A file without this ending was not yet renamed when its writer died.
            if path.extension().is_some_and(|ending| ending == "json") {
                match files::json(&path) {
                    Ok(card) => cards.push(card),
                    // Who only looks takes no lock: the card has been removed meanwhile.
                    Err(failure) if failure.kind() == Kind::NotFound => {}
                    Err(failure) => return Err(broken(&path, failure.chain().collect())),
                }
            }
        }
        Ok(cards)
    }

    /// The card with this name.
    pub fn card(&self, name: &IfName) -> Result<Option<Card>, Failure> {
        Ok(self.cards()?.into_iter().find(|card| card.name == *name))
    }

    /// Writes the card; when this returns it will survive us.
    pub fn write(&self, card: &Card) -> Result<(), Failure> {
        let path = self.path(&card.name);
        let write = || {
            // Not the folder around it: that of a sandbox which has ended stays removed.
            match fs::create_dir(&self.dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let temporary = path.with_extension(BEGUN);
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(card)?)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|error| {
            io_failure(
                format!("could not write the journal {}", path.display()),
                &error,
            )
        })
    }

    /// Removes what writers that died had begun to write.
    pub fn tidy(&self) -> Result<(), Failure> {
        for path in self.files()? {
            if path.extension().is_some_and(|ending| ending == BEGUN) {
                removed(&path)?;
            }
        }
        Ok(())
    }

    /// Forgets the card.
    pub fn remove(&self, name: &IfName) -> Result<(), Failure> {
        removed(&self.path(name))
    }

    fn files(&self) -> Result<Vec<PathBuf>, Failure> {
        let list = || -> io::Result<Vec<PathBuf>> {
            fs::read_dir(&self.dir)?
                .map(|entry| Ok(entry?.path()))
                .collect()
        };
        match list() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(|error| broken(&self.dir, error.to_string())),
        }
    }

    fn path(&self, name: &IfName) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }
}

fn broken(path: &Path, cause: String) -> Failure {
    let sentence = format!("could not read the journal {}", path.display());
    Failure::new(Kind::Other, sentence).with_cause(cause)
}

fn removed(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let sentence = format!("could not remove the journal {}", path.display());
            Err(io_failure(sentence, &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str) -> Card {
        Card {
            phase: Phase::Adding,
            name: name.parse().unwrap(),
            device: "tap1".parse().unwrap(),
            attempt: "5f".to_owned(),
            fds: vec!["pb-5f-q0".to_owned()],
            behind: Behind::ExistingTap(SavedTapState {
                mtu: 1500,
                up: false,
            }),
        }
    }

    #[test]
    fn what_is_written_is_read_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        assert_eq!(journal.cards().unwrap(), []);
        let plugged = Card {
            phase: Phase::Plugged,
            ..card("eth1")
        };
        journal.write(&card("eth1")).unwrap();
        journal.write(&plugged).unwrap();
        assert_eq!(journal.cards().unwrap(), [plugged]);
        journal.remove(&"eth1".parse().unwrap()).unwrap();
        journal.remove(&"eth1".parse().unwrap()).unwrap();
        assert_eq!(journal.cards().unwrap(), []);
    }

    #[test]
    fn a_write_that_was_cut_off_is_as_if_never_begun() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        journal.write(&card("eth1")).unwrap();
        fs::write(dir.path().join("cards/eth1.new"), "{\"pha").unwrap();
        assert_eq!(journal.cards().unwrap(), [card("eth1")]);
        journal.tidy().unwrap();
        assert_eq!(journal.files().unwrap(), [journal.path(&card("eth1").name)]);
    }

    #[test]
    fn the_folder_of_a_sandbox_that_ended_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("gone");
        let failure = Journal::at(&state).write(&card("eth1")).unwrap_err();
        assert_eq!(failure.kind(), Kind::NotFound);
        assert!(!state.exists());
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        journal.write(&card("eth1")).unwrap();
        fs::write(dir.path().join("cards/eth1.json"), "{\"phase\":\"adding\"}").unwrap();
        let failure = journal.cards().unwrap_err();
        assert!(failure.to_string().contains("cards/eth1.json"), "{failure}");
    }

    #[test]
    fn what_is_no_file_of_ours_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        journal.write(&card("eth1")).unwrap();
        let path = dir.path().join("cards/eth2.json");
        // As if it had gone between the list and the reading.
        std::os::unix::fs::symlink("gone", &path).unwrap();
        assert_eq!(journal.cards().unwrap(), [card("eth1")]);
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let failure = journal.cards().unwrap_err();
        assert!(failure.to_string().contains("cards/eth2.json"), "{failure}");
    }

    #[test]
    fn ids_are_qemus() {
        let name = "eth-test".parse().unwrap();
        assert_eq!(Card::device_id(&name), "pbd.eth-test");
        assert_eq!(card("eth1").netdev_id(), "pbn.eth1.5f");
    }
}
