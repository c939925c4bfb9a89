//! Log of the changes that undo a rule file, in case the agent is killed while it applies the file.
//!
//! The log consists of packed changes, like a rule file. Before the first change of a service it gets
//! the deletion of the service and, if the service existed, its creation with all servers; each batch
//! is logged before it is sent to the kernel. The log is removed when the file has been applied or
//! rolled back, so an agent that finds a log at its start applies it. The log must be on tmpfs
//! (`/run`): it has to survive a crash of the agent, but not a reboot.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use patchbay_codec::{Packed as _, Reader};
use patchbay_types::ipvs::{Change, ServiceId, Table};

/// Maximum size of a log that is read: one and a half million servers.
const MAX_LOG_BYTES: u64 = 32 << 20;

/// Path of the log. Without one nothing is logged, and an agent that is killed leaves a rule file
/// half applied.
#[derive(Debug, Clone, Default)]
pub(super) struct UndoLogPath(pub(super) Option<PathBuf>);

impl UndoLogPath {
    /// Creates an empty log, and removes an old one that could not be applied.
    pub(super) fn create(&self) -> io::Result<UndoLog> {
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

    /// Reads the log of a killed agent; empty if there is none.
    pub(super) fn read(&self) -> io::Result<Vec<Change>> {
        let Some(path) = &self.0 else {
            return Ok(Vec::new());
        };
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut reader = Reader::new(&bytes);
        let next = || {
            let more = !reader.is_empty();
            // The kernel has received nothing that is logged after a torn change.
            more.then(|| Change::unpack(&mut reader).ok()).flatten()
        };
        Ok(std::iter::from_fn(next).collect())
    }

    /// Removes the log.
    pub(super) fn remove(&self) -> io::Result<()> {
        self.0.as_deref().map_or(Ok(()), remove)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Log of one rule file.
#[derive(Debug, Default)]
pub(super) struct UndoLog {
    file: Option<(File, PathBuf)>,
    /// Changes that aren't written yet.
    bytes: Vec<u8>,
    /// Service that was logged last; the changes of its servers follow each other.
    last: Option<ServiceId>,
}

impl UndoLog {
    /// Logs the services of `from` that a change affects.
    pub(super) fn record(&mut self, from: &Table, change: &Change) {
        if self.file.is_none() {
            return;
        }
        if matches!(change, Change::Clear) {
            from.services()
                .for_each(|old| self.record_service(from, old.id));
        } else if let Some(id) = change.service() {
            self.record_service(from, id);
        }
    }

    fn record_service(&mut self, from: &Table, id: ServiceId) {
        if self.last.replace(id) != Some(id) {
            self.push(&Change::DeleteService(id));
            from.recreate(id).for_each(|change| self.push(&change));
        }
    }

    /// Logs a change that is part of the undo.
    pub(super) fn push(&mut self, undo: &Change) {
        if self.file.is_some() {
            undo.pack(&mut self.bytes);
        }
    }

    /// Writes the logged changes; call it before sending a batch to the kernel.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if let Some((file, _)) = &mut self.file {
            file.write_all(&self.bytes)?;
        }
        self.bytes.clear();
        Ok(())
    }

    /// Removes the log.
    pub(super) fn remove(self) -> io::Result<()> {
        self.file.map_or(Ok(()), |(_, path)| remove(&path))
    }
}

#[cfg(test)]
mod tests {
    use patchbay_grammar::ipvsadm::{Grammar, read_rules};
    use patchbay_types::ipvs::Deferred;

    use super::*;

    fn change(words: &str) -> Change {
        read_rules(&Grammar::NUMERIC, words)
            .unwrap()
            .remove(0)
            .change
    }

    #[test]
    fn read_stops_at_torn_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        let path = UndoLogPath(Some(file.clone()));
        assert!(path.read().unwrap().is_empty());
        let mut before = Table::default();
        let lines = [
            "-A -t 10.0.0.1:80 -s rr",
            "-a -t 10.0.0.1:80 -r 10.0.0.2:80 -w 7",
        ];
        for line in lines {
            let applied = before.apply(change(line), None, &mut Deferred::default());
            applied.unwrap();
        }
        let mut log = path.create().unwrap();
        log.record(&before, &change("-e -t 10.0.0.1:80 -r 10.0.0.2:80 -w 9"));
        log.record(&before, &change("-d -t 10.0.0.1:80 -r 10.0.0.2:80"));
        log.record(&before, &change("-A -t 10.0.0.9:80"));
        log.write().unwrap();
        let mut undo = vec![change("-D -t 10.0.0.1:80")];
        undo.extend(lines.map(change));
        undo.push(change("-D -t 10.0.0.9:80"));
        assert_eq!(path.read().unwrap(), undo);

        let complete = fs::read(&file).unwrap();
        fs::write(&file, &complete[..complete.len() - 1]).unwrap();
        undo.pop();
        assert_eq!(path.read().unwrap(), undo);

        log.remove().unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn log_without_path_records_nothing() {
        let path = UndoLogPath::default();
        let mut log = path.create().unwrap();
        log.record(&Table::default(), &change("-C"));
        log.push(&change("-D -t 10.0.0.1:80"));
        assert!(log.bytes.is_empty());
        log.write().unwrap();
        log.remove().unwrap();
        assert!(path.read().unwrap().is_empty());
    }
}
