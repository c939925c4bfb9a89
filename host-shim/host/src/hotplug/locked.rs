//! Sandbox whose lock is held.

use patchbay_types::IfName;
use patchbay_types::failure::Failure;

use super::inventory::{InventoryNic, NAMED_DEVICES};
use crate::qmp::command::QomGet;
use crate::qmp::{Error, Session};
use crate::sandbox::{
    BackendRecord, CardRecord, HostRecord, Journal, Lock, MtuState, Phase, Sandbox,
};

/// Sandbox that is locked.
pub(crate) struct LockedSandbox<'a> {
    pub(crate) sandbox: &'a Sandbox,
    session: Option<Session>,
    pub(crate) journal: Journal,
    _lock: Lock,
}

impl<'a> LockedSandbox<'a> {
    /// Takes the lock and checks that the machine runs.
    pub(super) fn open(sandbox: &'a Sandbox) -> Result<Self, Failure> {
        let state = sandbox.state()?;
        let lock = Lock::take(&state)?;
        let session = Session::connect(sandbox.monitor())?;
        state.describe(session.qemu())?;
        session.check_running()?;
        Ok(Self {
            sandbox,
            session: Some(session),
            journal: Journal::at(state.path()),
            _lock: lock,
        })
    }

    /// Returns the session with the monitor; connects if the monitor was released.
    pub(crate) fn qmp(&mut self) -> Result<&mut Session, Error> {
        match self.session {
            Some(ref mut session) => Ok(session),
            ref mut none => Ok(none.insert(Session::connect(self.sandbox.monitor())?)),
        }
    }

    /// Ends the session but keeps the lock: the monitor serves one client, and `list` needs it too.
    pub(super) fn release_monitor(&mut self) {
        self.session = None;
    }

    /// Reads the records of cards that QEMU has with the same backend.
    pub(crate) fn records(&self, nics: &[InventoryNic]) -> Result<Vec<CardRecord>, Failure> {
        let mut records = self.journal.cards()?;
        records.retain(|record| {
            let netdev = Some(record.netdev_id());
            nics.iter().any(|nic| nic.netdev == netdev)
        });
        Ok(records)
    }

    /// Returns the card of this name. QEMU decides which backend it has; a record of another one was
    /// lost by a command that used another run directory, or another release.
    pub(crate) fn card(&mut self, name: &IfName) -> Result<Option<CardRecord>, Failure> {
        let record = self.journal.card(name)?;
        let Some(netdev) = netdev(self.qmp()?, name)? else {
            return Ok(record);
        };
        let is_same = |record: &CardRecord| record.netdev_id() == netdev;
        Ok(record.filter(is_same).or_else(|| {
            let suffix = netdev.strip_prefix(&CardRecord::netdev_prefix(name));
            Some(CardRecord {
                phase: Phase::Plugged,
                name: name.clone(),
                device: name.into(),
                netns: None,
                netns_id: None,
                owner: None,
                suffix: suffix.unwrap_or_default().to_owned(),
                fds: Vec::new(),
                backend: BackendRecord::OwnTap,
                path: None,
                link: None,
                mtu: MtuState::Settled,
                mirror: None,
                port: None,
                host: HostRecord::default(),
            })
        }))
    }
}

/// Reads the id of the card's backend; `None` if QEMU does not have the card.
fn netdev(qmp: &mut Session, name: &IfName) -> Result<Option<String>, Error> {
    let path = format!("{}{}", NAMED_DEVICES, CardRecord::device_id(name));
    let property = "netdev";
    let path = path.as_str();
    match qmp.run(&QomGet { path, property }) {
        Ok(netdev) => Ok(netdev.as_str().map(str::to_owned)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}
