//! Changes that a request makes, for its record in the log.

use std::fmt::Display;

use patchbay_types::ipvs::Change;
use slog::{KV, Key, Record, Serializer};

/// Fields of a record; a request without any only reads.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<(&'static str, Value)>);

#[derive(Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Count(usize),
}

impl Changes {
    /// Returns whether the request only reads.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the name of something that changes.
    pub(super) fn name(&mut self, field: &'static str, value: impl Display) {
        self.0.push((field, Value::Text(value.to_string())));
    }

    /// Adds a number of things that change.
    pub(super) fn count(&mut self, field: &'static str, count: usize) {
        self.0.push((field, Value::Count(count)));
    }

    /// Adds a change of the IPVS table, in the words of ipvsadm.
    pub(super) fn ipvs(&mut self, change: &Change) {
        let option = match change {
            Change::AddService(_) => "-A",
            Change::EditService(_) => "-E",
            Change::DeleteService(_) => "-D",
            Change::Clear => "-C",
            Change::AddServer(..) => "-a",
            Change::EditServer(..) => "-e",
            Change::DeleteServer(..) => "-d",
            Change::Zero(_) => "-Z",
            Change::SetTimeouts(_) => "--set",
            Change::StartDaemon(_) => "--start-daemon",
            Change::StopDaemon(_) => "--stop-daemon",
        };
        self.name("change", option);
        let zeroed = match change {
            Change::Zero(service) => *service,
            _ => None,
        };
        if let Some(service) = change.service().or(zeroed) {
            self.name("service", service);
        }
        match change {
            Change::AddServer(_, server) | Change::EditServer(_, server) => {
                self.name("server", server.id);
            }
            Change::DeleteServer(_, server) => self.name("server", server),
            _ => {}
        }
    }
}

impl KV for Changes {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        self.0.iter().try_for_each(|(field, value)| match value {
            Value::Text(text) => serializer.emit_str(Key::from(*field), text),
            Value::Count(count) => serializer.emit_usize(Key::from(*field), *count),
        })
    }
}
