//! Journal of a machine: the host device of each card, its earlier state, and operations in flight,
//! which neither QEMU nor the guest knows.
//!
//! Each card has one file, replaced atomically and synced before the first command that it covers.
//! A file whose phase is not `plugged` and whose owner has ended was left by a process that died; the
//! next change of the machine removes that card first. The format is stable: another release can have
//! written it.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use patchbay_types::IfName;
use patchbay_types::failure::{Failure, Kind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Sandbox;
use super::card_record::CardRecord;
use super::files;
use super::replaced_card::ReplacedCard;
use crate::private::{self, UNFINISHED};

/// Version of the format of a record. It changes only if a reader must not ignore a new key
/// (docs/compatibility.md).
const VERSION: u32 = 1;

/// Version of a record; those of earlier releases have none.
#[derive(Deserialize)]
struct FormatVersion {
    #[serde(default = "first")]
    version: u32,
}

fn first() -> u32 {
    1
}

/// Record as it is written.
#[derive(Serialize)]
struct Versioned<'a, Record> {
    version: u32,
    #[serde(flatten)]
    card: &'a Record,
}

/// Record of a card.
pub(crate) trait JournalRecord: Serialize + DeserializeOwned {
    /// Folder of the records in that of the machine.
    const FOLDER: &str;

    /// Returns the name under which the card is, or was, plugged.
    fn name(&self) -> &IfName;
}

impl JournalRecord for CardRecord {
    const FOLDER: &str = "cards";

    fn name(&self) -> &IfName {
        &self.name
    }
}

impl JournalRecord for ReplacedCard {
    const FOLDER: &str = "replaced";

    fn name(&self) -> &IfName {
        &self.card.name
    }
}

/// Journal of the plugged cards of one machine.
pub(crate) type Journal = Records<CardRecord>;
/// Journal of its cards that are being replaced.
pub(crate) type ReplacedCards = Records<ReplacedCard>;

/// Records of one machine's cards, a file for each.
#[derive(Debug)]
pub(crate) struct Records<Record> {
    dir: PathBuf,
    kind: PhantomData<Record>,
}

impl<Record: JournalRecord> Records<Record> {
    /// Returns the journal in the machine's folder.
    pub(crate) fn at(state: &Path) -> Self {
        Self {
            dir: state.join(Record::FOLDER),
            kind: PhantomData,
        }
    }

    /// Reads every card of a sandbox; one without a machine has none, and no change can begin there.
    ///
    /// # Errors
    /// As of [`Records::cards`].
    pub(crate) fn of(sandbox: &Sandbox) -> Result<Vec<Record>, Failure> {
        match sandbox.state() {
            Ok(state) => Self::at(state.path()).cards(),
            Err(absent) if absent.kind() == Kind::NotFound => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    /// Reads every card.
    ///
    /// # Errors
    /// A file that can't be read; the message names it, so that the operator can clear the card.
    pub(crate) fn cards(&self) -> Result<Vec<Record>, Failure> {
        let mut cards = Vec::new();
        for path in self.files("json")? {
            match read(&path) {
                Ok(card) => cards.push(card),
                // Readers take no lock: the card was removed meanwhile.
                Err(failure) if failure.kind() == Kind::NotFound => {}
                Err(failure) if failure.kind() == Kind::Unsupported => return Err(failure),
                Err(failure) => return Err(unreadable(&path, failure.chain().collect())),
            }
        }
        Ok(cards)
    }

    /// Reads one card.
    pub(crate) fn card(&self, name: &IfName) -> Result<Option<Record>, Failure> {
        Ok(self.cards()?.into_iter().find(|card| card.name() == name))
    }

    /// Writes the card durably.
    pub(crate) fn write(&self, card: &Record) -> Result<(), Failure> {
        let path = self.path(card.name());
        let message = || format!("could not write the journal {}", path.display());
        let failed = |error| Failure::of_io(message(), &error);
        let version = VERSION;
        let text = serde_json::to_vec(&Versioned { version, card })
            .map_err(|error| failed(error.into()))?;
        if text.len() as u64 > files::MAX_BYTES {
            let failure = Failure::new(Kind::Invalid, message());
            return Err(failure.with_cause("the configuration of the card is larger than 4 MiB"));
        }
        let written = private::create_folder(&self.dir, private::LISTED)
            .and_then(|()| private::replace(&path, &text));
        written.map_err(failed)
    }

    /// Writes a card that the journal does not have. After a failure it does not have it either: a record
    /// that is in place but possibly not on the disk is removed.
    pub(crate) fn create(&self, card: &Record) -> Result<(), Failure> {
        self.write(card).inspect_err(|_| {
            // The first failure is reported.
            let _ = self.remove(card.name());
        })
    }

    /// Removes the unfinished files of processes that died.
    pub(crate) fn remove_unfinished(&self) -> Result<(), Failure> {
        let unfinished = self.files(UNFINISHED)?;
        unfinished.iter().try_for_each(|path| remove(path))
    }

    /// Returns whether there is a file whose writing has not finished.
    pub(crate) fn has_unfinished(&self) -> Result<bool, Failure> {
        Ok(!self.files(UNFINISHED)?.is_empty())
    }

    /// Removes the card.
    pub(crate) fn remove(&self, name: &IfName) -> Result<(), Failure> {
        remove(&self.path(name))
    }

    fn files(&self, extension: &str) -> Result<Vec<PathBuf>, Failure> {
        let names = files::names(&self.dir)?.into_iter();
        let paths = names.map(|name| self.dir.join(name));
        Ok(paths
            .filter(|path| path.extension().is_some_and(|own| own == extension))
            .collect())
    }

    fn path(&self, name: &IfName) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }
}

/// Reads a record.
///
/// # Errors
/// [`Kind::Unsupported`] for that of a later format, which this patchbay could misunderstand.
fn read<Record: JournalRecord>(path: &Path) -> Result<Record, Failure> {
    let FormatVersion { version } = files::json(path)?;
    if version != VERSION {
        let message = format!(
            "the journal {} has version {version} of the format, and this patchbay reads version {VERSION}",
            path.display()
        );
        return Err(Failure::new(Kind::Unsupported, message)
            .with_cause("unplug the card with the release of patchbay that plugged it"));
    }
    files::json(path)
}

fn unreadable(path: &Path, cause: String) -> Failure {
    let message = format!("could not read the journal {}", path.display());
    Failure::new(Kind::Other, message).with_cause(cause)
}

fn remove(path: &Path) -> Result<(), Failure> {
    private::remove(path).map_err(|error| {
        let message = format!("could not remove the journal {}", path.display());
        Failure::of_io(message, &error)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use patchbay_types::{PciAddress, PciPath};

    use super::super::card_record::{BackendRecord, Phase};
    use super::super::host_record::HostRecord;
    use super::super::tap_record::{MtuState, SavedTap};
    use super::*;
    use crate::card::Listener;
    use crate::netns::HostLinkState;
    use crate::process::Process;

    pub(crate) fn card(name: &str) -> CardRecord {
        CardRecord {
            phase: Phase::Adding,
            name: name.parse().unwrap(),
            device: "tap1".parse().unwrap(),
            netns: Some("/run/netns/a".into()),
            netns_id: None,
            owner: None,
            suffix: "5f".to_owned(),
            fds: vec!["pb-5f-q0".to_owned()],
            backend: BackendRecord::ExistingTap(SavedTap {
                state: HostLinkState {
                    mtu: 1500,
                    up: false,
                },
                index: None,
            }),
            path: None,
            link: None,
            mtu: MtuState::Settled,
            mirror: None,
            port: None,
            host: HostRecord::default(),
        }
    }

    #[test]
    fn written_card_is_read_until_removed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        assert_eq!(journal.cards().unwrap(), []);
        let plugged = CardRecord {
            phase: Phase::Plugged,
            path: PciPath::new(vec![PciAddress::from_devfn(8), PciAddress::from_devfn(0)]).ok(),
            mtu: MtuState::Changing,
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
    fn card_of_own_or_ended_process_is_left() {
        let with = |owner| CardRecord {
            owner,
            ..card("eth1")
        };
        let parent = Process::of(std::os::unix::process::parent_id());
        assert!(!with(parent).is_left());
        assert!(with(Process::current()).is_left());
        assert!(with(None).is_left());
    }

    #[test]
    fn unfinished_write_is_ignored_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        journal.write(&card("eth1")).unwrap();
        fs::write(dir.path().join("cards/eth1.new"), "{\"pha").unwrap();
        assert_eq!(journal.cards().unwrap(), [card("eth1")]);
        assert_eq!(journal.has_unfinished(), Ok(true));
        journal.remove_unfinished().unwrap();
        assert_eq!(journal.has_unfinished(), Ok(false));
        let whole = journal.path(&card("eth1").name);
        assert_eq!(journal.files("json").unwrap(), [whole]);
        assert_eq!(journal.files(UNFINISHED).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn write_card_that_could_not_be_read_again_fails() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        journal.write(&card("eth1")).unwrap();
        let large = CardRecord {
            fds: vec!["x".repeat(5 << 20)],
            ..card("eth1")
        };
        let failure = journal.write(&large).unwrap_err();
        assert_eq!(failure.kind(), Kind::Invalid);
        assert_eq!(journal.cards().unwrap(), [card("eth1")]);
    }

    #[test]
    fn cards_record_of_a_later_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        journal.write(&card("eth1")).unwrap();
        let path = journal.path(&card("eth1").name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(r#"{"version":1,"phase":"#), "{text}");
        fs::write(&path, text.replace(r#""version":1"#, r#""version":2"#)).unwrap();
        let failure = journal.cards().unwrap_err();
        assert_eq!(failure.kind(), Kind::Unsupported);
        assert!(
            failure
                .to_string()
                .contains("cards/eth1.json has version 2"),
            "{failure}"
        );
        assert_eq!(failure.chain().count(), 1, "the next step");
    }

    #[test]
    fn cards_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        journal.write(&card("eth1")).unwrap();
        fs::write(dir.path().join("cards/eth1.json"), "{\"phase\":\"adding\"}").unwrap();
        let failure = journal.cards().unwrap_err();
        assert!(failure.to_string().contains("cards/eth1.json"), "{failure}");
    }

    #[test]
    fn cards_missing_or_irregular_file_is_not_awaited() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        journal.write(&card("eth1")).unwrap();
        let path = dir.path().join("cards/eth2.json");
        // As if it were removed between listing and reading.
        std::os::unix::fs::symlink("gone", &path).unwrap();
        assert_eq!(journal.cards().unwrap(), [card("eth1")]);
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let failure = journal.cards().unwrap_err();
        assert!(failure.to_string().contains("cards/eth2.json"), "{failure}");
    }

    #[test]
    fn ids_contain_name_and_suffix() {
        let name = "eth-test".parse().unwrap();
        assert_eq!(CardRecord::device_id(&name), "pbd.eth-test");
        assert_eq!(card("eth1").netdev_id(), "pbn.eth1.5f");
    }

    /// Files as release 0.1.0 writes them.
    #[test]
    fn recorded_journal_files_stay_readable() {
        let recorded = [
            r#"{"phase":"adding","name":"eth1","device":"tap1","attempt":"5f","fds":["pb-5f-q0"],"behind":{"existing_tap":{"mtu":1500,"up":false}}}"#,
            r#"{"phase":"plugged","name":"eth2","device":"tap2","attempt":"60","fds":[],"behind":"own_tap"}"#,
            r#"{"phase":"removing","name":"eth3","device":"eth3","attempt":"61","fds":[],"behind":{"vhost_user":["/run/vhost-user1","qemu"]}}"#,
        ];
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        fs::create_dir(dir.path().join("cards")).unwrap();
        for (index, text) in recorded.iter().enumerate() {
            fs::write(dir.path().join(format!("cards/{index}.json")), text).unwrap();
        }
        let mut cards = journal.cards().unwrap();
        cards.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        let netns = None;
        assert_eq!(
            cards[0],
            CardRecord {
                netns,
                ..card("eth1")
            }
        );
        assert_eq!(cards[1].phase, Phase::Plugged);
        assert_eq!(cards[1].backend, BackendRecord::OwnTap);
        assert_eq!(cards[2].phase, Phase::Removing);
        let socket = (Path::new("/run/vhost-user1"), Listener::Qemu);
        assert_eq!(cards[2].socket(), Some(socket));
        let written = cards
            .iter()
            .map(|card| serde_json::to_string(card).unwrap());
        assert_eq!(written.collect::<Vec<_>>(), recorded);
    }
}
