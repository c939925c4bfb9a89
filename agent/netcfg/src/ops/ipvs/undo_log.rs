//! Log of the changes that undo a rule file or another operation on many rules, in case the agent is
//! killed meanwhile.
//!
//! The log consists of a header with the version of its format, packed changes, like a rule file, and
//! settings. Before the first change of a service it gets the deletion of the service and, if the service
//! existed, its creation with all servers; each batch is logged before it is sent to the kernel. The log
//! is removed when the file has been applied or rolled back, so an agent that finds a log at its start
//! applies it. If the rollback fails, the log is kept, and the next operation applies it. The log must be on
//! tmpfs (`/run`): it has to survive a crash of the agent, but not a reboot.
//!
//! A service that the kernel refuses to add is disowned in the log: if it exists, another program has added
//! it. An agent that is killed between the request and its acknowledgement can't log that, so its undo deletes
//! the service, because IPVS doesn't record which program has added one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use patchbay_codec::{Packed as _, Reader};
use patchbay_types::ipvs::{Change, ServiceId, Setting, Table};

/// Maximum size of a log: one and a half million servers.
const MAX_LOG_BYTES: usize = 32 << 20;
/// Header of a log. Its last byte is the version, which changes with the packing.
const HEADER: &[u8] = b"patchbay-undo\x01";

/// Maximum number of drains at a time.
const MAX_DRAINS: usize = 8;

/// Step of an undo.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Undo {
    Change(Change),
    Setting(Setting),
    /// Not deleting a service: the kernel refused to add it.
    Disown(ServiceId),
}

/// Tags of the steps.
const CHANGE: u8 = 0;
const SETTING: u8 = 1;
const DISOWN: u8 = 2;

impl Undo {
    fn unpack(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.byte("step").ok()? {
            CHANGE => Change::unpack(reader).ok().map(Self::Change),
            SETTING => Setting::unpack(reader).ok().map(Self::Setting),
            DISOWN => Change::unpack(reader).ok()?.service().map(Self::Disown),
            _ => None,
        }
    }
}

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
        UndoLog::create(path.clone())
    }

    /// Replaces the log by one with settings only: the rules are as they were, and can be changed by others.
    pub(super) fn keep_settings<'s>(
        &self,
        settings: impl IntoIterator<Item = &'s Setting>,
    ) -> io::Result<()> {
        let mut log = self.create()?;
        settings
            .into_iter()
            .for_each(|setting| log.push_setting(setting));
        log.write()
    }

    /// Returns the logs of drains, which go on while rule files are applied.
    pub(super) fn drains(&self) -> impl Iterator<Item = Self> {
        let path = |number: usize| {
            let mut path = self.0.clone()?.into_os_string();
            path.push(format!(".drain-{number}"));
            Some(PathBuf::from(path))
        };
        (0..MAX_DRAINS).map(move |number| Self(path(number)))
    }

    /// Creates the log of a drain; `None` if there are too many.
    pub(super) fn create_drain(&self) -> io::Result<Option<UndoLog>> {
        if self.0.is_none() {
            return Ok(Some(UndoLog::default()));
        }
        for Self(path) in self.drains() {
            match path.map(UndoLog::create) {
                Some(Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => return created.transpose(),
            }
        }
        Ok(None)
    }

    /// Reads the log of a killed agent; empty if there is none.
    pub(super) fn read(&self) -> io::Result<Vec<Undo>> {
        let Some(path) = &self.0 else {
            return Ok(Vec::new());
        };
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => file
                .take(MAX_LOG_BYTES as u64 + 1)
                .read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if bytes.len() > MAX_LOG_BYTES {
            return Err(io::Error::other("the log is larger than 32 MiB"));
        }
        // The agent was killed before the first change.
        if HEADER.starts_with(&bytes) {
            return Ok(Vec::new());
        }
        let changes = bytes.strip_prefix(HEADER).ok_or_else(|| {
            io::Error::other("another version of the agent wrote the log: restart the guest")
        })?;
        let mut reader = Reader::new(changes);
        let next = || {
            let more = !reader.is_empty();
            // The kernel has received nothing that is logged after a torn change.
            more.then(|| Undo::unpack(&mut reader)).flatten()
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
    /// Bytes in the file.
    written: usize,
    /// Changes that aren't written yet.
    bytes: Vec<u8>,
    /// Service that was logged last; the changes of its servers follow each other.
    last: Option<ServiceId>,
    /// Services that the kernel was requested to add and hasn't refused.
    pub(super) added: Vec<ServiceId>,
    /// Whether the undo failed, although the operation has succeeded.
    pub(super) undo_failed: bool,
}

impl UndoLog {
    fn create(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&path)?;
        file.write_all(HEADER)?;
        Ok(Self {
            file: Some((file, path)),
            written: HEADER.len(),
            ..Self::default()
        })
    }

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
            self.bytes.push(CHANGE);
            undo.pack(&mut self.bytes);
        }
    }

    /// Keeps services that the kernel refused to add out of the undo, and writes that.
    ///
    /// # Errors
    /// Those of [`UndoLog::write`].
    pub(super) fn disown(&mut self, refused: &[ServiceId]) -> io::Result<()> {
        self.added.retain(|id| !refused.contains(id));
        if self.file.is_some() {
            for id in refused {
                self.bytes.push(DISOWN);
                Change::DeleteService(*id).pack(&mut self.bytes);
            }
        }
        self.write()
    }

    /// Logs a setting that is part of the undo.
    pub(super) fn push_setting(&mut self, undo: &Setting) {
        if self.file.is_some() {
            self.bytes.push(SETTING);
            undo.pack(&mut self.bytes);
        }
    }

    /// Writes the logged changes; call it before sending a batch to the kernel.
    ///
    /// # Errors
    /// A log that would exceed its limit, and failures of the file system.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if let Some((file, _)) = &mut self.file {
            self.written += self.bytes.len();
            if self.written > MAX_LOG_BYTES {
                let message = "the log would exceed 32 MiB: restore the rules in several files";
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
            }
            file.write_all(&self.bytes)?;
        }
        self.bytes.clear();
        Ok(())
    }

    /// Returns the path of the log.
    pub(super) fn path(&self) -> UndoLogPath {
        UndoLogPath(self.file.as_ref().map(|(_, path)| path.clone()))
    }
}

#[cfg(test)]
mod tests {
    use patchbay_grammar::ipvsadm::{Grammar, read_rules};
    use patchbay_types::ipvs::{Deferred, Reading, Sysctl, SysctlValue};

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
        let sysctl = Sysctl::EXPIRE_NODEST_CONN;
        let value = SysctlValue::One(0);
        let setting = Setting::new(Reading { sysctl, value }).unwrap();
        log.push_setting(&setting);
        log.write().unwrap();
        let mut undo = vec![Undo::Change(change("-D -t 10.0.0.1:80"))];
        undo.extend(lines.map(change).map(Undo::Change));
        undo.push(Undo::Change(change("-D -t 10.0.0.9:80")));
        let kept = change("-D -t 10.0.0.9:80").service().unwrap();
        log.added.push(kept);
        log.disown(&[kept]).unwrap();
        assert_eq!(log.added, []);
        undo.extend([Undo::Setting(setting), Undo::Disown(kept)]);
        assert_eq!(path.read().unwrap(), undo);

        let complete = fs::read(&file).unwrap();
        fs::write(&file, &complete[..complete.len() - 1]).unwrap();
        undo.pop();
        assert_eq!(path.read().unwrap(), undo);

        log.path().remove().unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn logs_of_drains_are_limited() {
        let dir = tempfile::tempdir().unwrap();
        let path = UndoLogPath(Some(dir.path().join("log")));
        let logs = (0..MAX_DRAINS).map(|_| path.create_drain().unwrap().unwrap());
        let mut logs: Vec<UndoLog> = logs.collect();
        assert!(path.create_drain().unwrap().is_none());
        logs.pop().unwrap().path().remove().unwrap();
        assert!(path.create_drain().unwrap().is_some());
        // A rule file has another log.
        path.create().unwrap().path().remove().unwrap();
    }

    #[test]
    fn write_log_over_its_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = UndoLogPath(Some(dir.path().join("log")));
        let mut log = path.create().unwrap();
        log.push(&change("-D -t 10.0.0.1:80"));
        log.write().unwrap();
        log.bytes.resize(MAX_LOG_BYTES - HEADER.len(), 0);
        let error = log.write().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        // The changes that the kernel has received can still be undone.
        let sent = Undo::Change(change("-D -t 10.0.0.1:80"));
        assert_eq!(path.read().unwrap(), [sent]);
    }

    #[test]
    fn read_log_of_another_version_fails() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        let path = UndoLogPath(Some(file.clone()));
        drop(path.create().unwrap());
        let header = fs::read(&file).unwrap();
        for length in 0..=header.len() {
            fs::write(&file, &header[..length]).unwrap();
            assert!(path.read().unwrap().is_empty(), "{length}");
        }
        for other in [&b"patchbay-undo\x02"[..], b"\x01\x02\x03"] {
            fs::write(&file, other).unwrap();
            let error = path.read().unwrap_err();
            assert!(error.to_string().contains("restart the guest"), "{error}");
        }
        fs::write(&file, vec![0; MAX_LOG_BYTES + 1]).unwrap();
        assert!(path.read().unwrap_err().to_string().contains("32 MiB"));
    }

    #[test]
    fn log_without_path_records_nothing() {
        let path = UndoLogPath::default();
        let mut log = path.create().unwrap();
        log.record(&Table::default(), &change("-C"));
        log.push(&change("-D -t 10.0.0.1:80"));
        assert!(log.bytes.is_empty());
        log.write().unwrap();
        log.path().remove().unwrap();
        assert!(path.read().unwrap().is_empty());
    }

    #[test]
    fn keep_settings_drops_the_rules() {
        let dir = tempfile::tempdir().unwrap();
        let path = UndoLogPath(Some(dir.path().join("log")));
        let sysctl = Sysctl::EXPIRE_NODEST_CONN;
        let value = SysctlValue::One(0);
        let setting = Setting::new(Reading { sysctl, value }).unwrap();
        let mut log = path.create().unwrap();
        log.push(&change("-A -t 10.0.0.1:80 -s rr"));
        log.push_setting(&setting);
        log.write().unwrap();
        path.keep_settings([&setting]).unwrap();
        assert_eq!(path.read().unwrap(), [Undo::Setting(setting)]);
    }
}
