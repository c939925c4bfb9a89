//! What leads back from a rule file that is being carried out, should the agent be killed meanwhile.
//!
//! The log is packed changes, like a rule file. Before a service is touched it says that the service
//! goes and, where there was one, that it comes again with its servers; each batch is logged before
//! the kernel is told. The log ends with the file, done or undone: an agent that finds one when it
//! starts goes back. It lies where nothing outlives the kernel that it speaks of (`/run`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use patchbay_codec::{Packed as _, Reader};
use patchbay_types::ipvs::{Change, ServiceId, Table};

/// Largest log that is read, in bytes: one and a half million servers.
const MAX_LOG: u64 = 32 << 20;

/// Where logs lie; an agent that was told no place has none, and leaves a part of a file when it is
/// killed.
#[derive(Debug, Clone, Default)]
pub(super) struct Place(Option<PathBuf>);

impl Place {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self(path)
    }

    /// A new log, in place of one that could not be followed.
    pub(super) fn begin(&self) -> io::Result<UndoLog> {
        let Some(path) = &self.0 else {
            return Ok(UndoLog::default());
        };
        remove(path)?;
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(UndoLog {
            file: Some((file, path.clone())),
            ..UndoLog::default()
        })
    }

    /// What an agent that was killed has left; nothing if it was killed at nothing.
    pub(super) fn left(&self) -> io::Result<Vec<Change>> {
        let Some(path) = &self.0 else {
            return Ok(Vec::new());
        };
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(MAX_LOG).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut reader = Reader::new(&bytes);
        let next = || {
            let more = !reader.is_empty();
            // Behind what is torn nothing follows that the kernel was told.
            more.then(|| Change::unpack(&mut reader).ok()).flatten()
        };
        Ok(std::iter::from_fn(next).collect())
    }

    /// It has been followed.
    pub(super) fn forget(&self) -> io::Result<()> {
        self.0.as_deref().map_or(Ok(()), remove)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The log of one file.
#[derive(Debug, Default)]
pub(super) struct UndoLog {
    file: Option<(File, PathBuf)>,
    bytes: Vec<u8>,
    /// The service that was logged last: its servers come in a row.
    last: Option<ServiceId>,
}

impl UndoLog {
    /// Logs what the change may cost of this table.
    pub(super) fn lose(&mut self, from: &Table, change: &Change) {
        if self.file.is_none() {
            return;
        }
        match change {
            Change::Clear => from.services().for_each(|old| self.log(from, old.id)),
            _ => change
                .service()
                .into_iter()
                .for_each(|id| self.log(from, id)),
        }
    }

    fn log(&mut self, from: &Table, id: ServiceId) {
        if self.last.replace(id) != Some(id) {
            self.push(&Change::DeleteService(id));
            from.recreate(id).for_each(|change| self.push(&change));
        }
    }

    /// Logs a change that leads back.
    pub(super) fn push(&mut self, back: &Change) {
        if self.file.is_some() {
            back.pack(&mut self.bytes);
        }
    }

    /// To be called before the kernel is told.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if let Some((file, _)) = &mut self.file {
            file.write_all(&self.bytes)?;
        }
        self.bytes.clear();
        Ok(())
    }

    /// The file is done, or undone.
    pub(super) fn end(self) -> io::Result<()> {
        self.file.map_or(Ok(()), |(_, path)| remove(&path))
    }
}

#[cfg(test)]
mod tests {
    use patchbay_grammar::NoNames;
    use patchbay_grammar::ipvsadm::{Grammar, IpvsCommand, parse};
    use patchbay_types::ipvs::{Deferred, Forward};

    use super::*;

    fn change(words: &str) -> Change {
        let grammar = Grammar {
            names: &NoNames,
            forward: Forward::Route,
        };
        let words: Vec<&str> = words.split(' ').collect();
        match parse(&grammar, &words).unwrap() {
            IpvsCommand::Change(change) => change,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_log_leads_back_up_to_where_it_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let place = Place::new(Some(path.clone()));
        assert!(place.left().unwrap().is_empty());
        let mut before = Table::default();
        let lines = [
            "-A -t 10.0.0.1:80 -s rr",
            "-a -t 10.0.0.1:80 -r 10.0.0.2:80 -w 7",
        ];
        for line in lines {
            let applied = before.apply(change(line), None, &mut Deferred::default());
            applied.unwrap();
        }
        let mut log = place.begin().unwrap();
        log.lose(&before, &change("-e -t 10.0.0.1:80 -r 10.0.0.2:80 -w 9"));
        log.lose(&before, &change("-d -t 10.0.0.1:80 -r 10.0.0.2:80"));
        log.lose(&before, &change("-A -t 10.0.0.9:80"));
        log.write().unwrap();
        let mut back = vec![change("-D -t 10.0.0.1:80")];
        back.extend(lines.map(change));
        back.push(change("-D -t 10.0.0.9:80"));
        assert_eq!(place.left().unwrap(), back);

        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        back.pop();
        assert_eq!(place.left().unwrap(), back);

        log.end().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn an_agent_without_a_place_logs_nothing() {
        let place = Place::default();
        let mut log = place.begin().unwrap();
        log.lose(&Table::default(), &change("-C"));
        log.push(&change("-D -t 10.0.0.1:80"));
        assert!(log.bytes.is_empty());
        log.write().unwrap();
        log.end().unwrap();
        assert!(place.left().unwrap().is_empty());
    }
}
