//! Record of a sandbox's properties and processes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::options::MachineType;
use super::processes::{ProcessRecord, ProcessRole};
use crate::image::Tools;

/// Contents of `processes.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) machine: MachineType,
    /// Presence of the tools, among them the server of `exec`.
    pub(crate) tools: Tools,
    /// Network namespace of QEMU; `None`: the launcher's.
    pub(crate) netns: Option<PathBuf>,
    /// Processes of the sandbox, in the order of their start.
    pub(crate) processes: Vec<ProcessRecord>,
}

impl Record {
    pub(crate) fn is_alive(&self) -> bool {
        self.processes.iter().any(ProcessRecord::is_alive)
    }

    /// Returns the process of this role if it runs.
    pub(crate) fn running(&self, role: ProcessRole) -> Option<&ProcessRecord> {
        let mut with_role = self.processes.iter().filter(|process| process.role == role);
        with_role.find(|process| process.is_alive())
    }
}
