//! Record of a sandbox's properties and processes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::options::MachineType;
use super::processes::{ProcessRecord, ProcessRole};
use crate::image::Tools;

/// Contents of `processes.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// QEMU machine type.
    pub machine: MachineType,
    /// Presence of the tools, among them the server of `exec`.
    pub tools: Tools,
    /// Network namespace of QEMU; `None`: the launcher's.
    pub netns: Option<PathBuf>,
    /// Processes of the sandbox, in the order of their start.
    pub processes: Vec<ProcessRecord>,
}

impl Record {
    /// `true` if any of the processes runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.processes.iter().any(ProcessRecord::is_alive)
    }

    /// Returns the process of this role if it runs.
    #[must_use]
    pub fn running(&self, role: ProcessRole) -> Option<&ProcessRecord> {
        let mut with_role = self.processes.iter().filter(|process| process.role == role);
        with_role.find(|process| process.is_alive())
    }
}
