//! Journals of release 0.1.0, which kept one per name of a machine.

use std::fs;
use std::path::Path;

use patchbay_types::failure::Failure;

use super::card_record::CardRecord;
use super::journal::{Journal, JournalRecord as _};

impl Journal {
    /// Takes over the cards of a journal that release 0.1.0 kept in the folder `earlier`, and removes
    /// it.
    pub(crate) fn adopt(&self, earlier: &Path) -> Result<(), Failure> {
        let (journal, dir) = (Self::at(earlier), earlier.join(CardRecord::FOLDER));
        if !dir.exists() {
            return Ok(());
        }
        for card in journal.cards()? {
            if self.card(&card.name)?.is_none() {
                self.write(&card)?;
            }
        }
        let message = || format!("could not remove the earlier journal {}", dir.display());
        fs::remove_dir_all(&dir).map_err(|error| Failure::of_io(message(), &error))?;
        // The folder stays if it registers the sandbox or another command of that release is running.
        let _ = fs::remove_file(earlier.join("lock")).and_then(|()| fs::remove_dir(earlier));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::tests::card;
    use super::*;

    #[test]
    fn adopt_moves_cards_of_earlier_journal() {
        let dir = tempfile::tempdir().unwrap();
        let [earlier, state] = ["earlier", "state"].map(|name| dir.path().join(name));
        fs::create_dir_all(&state).unwrap();
        let journal = Journal::at(&state);
        journal.adopt(&earlier).unwrap();
        journal.write(&card("eth1")).unwrap();
        fs::create_dir_all(&earlier).unwrap();
        fs::write(earlier.join("lock"), "").unwrap();
        for name in ["eth1", "eth2"] {
            let old = CardRecord {
                suffix: "older".to_owned(),
                ..card(name)
            };
            Journal::at(&earlier).write(&old).unwrap();
        }
        journal.adopt(&earlier).unwrap();
        let suffix = |name: &str| {
            journal
                .card(&name.parse().unwrap())
                .unwrap()
                .unwrap()
                .suffix
        };
        assert_eq!(
            (suffix("eth1"), suffix("eth2")),
            ("5f".into(), "older".into())
        );
        assert!(!earlier.exists());
    }

    #[test]
    fn adopt_keeps_registration_of_sandbox() {
        let dir = tempfile::tempdir().unwrap();
        let (state, registration) = (dir.path().join("state"), dir.path().join("sandbox.json"));
        fs::create_dir_all(&state).unwrap();
        fs::write(&registration, "{}").unwrap();
        fs::write(dir.path().join("lock"), "").unwrap();
        Journal::at(dir.path()).write(&card("eth1")).unwrap();
        let journal = Journal::at(&state);
        journal.adopt(dir.path()).unwrap();
        assert_eq!(journal.cards().unwrap(), [card("eth1")]);
        assert!(registration.exists() && !dir.path().join("cards").exists());
    }
}
