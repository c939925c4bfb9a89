//! What `doctor` found: for machines as JSON, for people as lines.

use std::fmt;

use patchbay_types::failure::Failure;
use patchbay_types::text::escape_controls;
use serde::{Serialize, Serializer};

use crate::output;
use patchbay_host::agent::Greeting;
use patchbay_host::hotplug::Mechanism;
use patchbay_host::sandbox::Phase;

/// A sandbox, and what plugging needs of it. What could not be asked is absent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) id: String,
    pub(crate) monitor: Monitor,
    pub(crate) machine: Option<Machine>,
    pub(crate) agent: Agent,
    pub(crate) netns: Option<String>,
    pub(crate) vhost_net: bool,
    pub(crate) cards: Vec<CardLine>,
    pub(crate) missing: Vec<Lack>,
}

/// QEMU's monitor.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Monitor {
    pub(crate) path: String,
    pub(crate) free: bool,
    /// Milliseconds until it had greeted, or until that was given up.
    pub(crate) greeting_ms: u128,
}

/// The machine, by its monitor.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    /// As `-machine` takes it, with its version.
    pub(crate) r#type: String,
    pub(crate) qemu: String,
    /// QEMU's `RunState`: `running`, `paused`, `prelaunch` and others.
    pub(crate) state: String,
    pub(crate) shared_memory: bool,
    pub(crate) hotplug: Mechanism,
    pub(crate) slots: Vec<Slots>,
}

/// Free places on a bus.
#[derive(Debug, Serialize)]
pub(crate) struct Slots {
    pub(crate) bus: String,
    pub(crate) free: usize,
}

/// The agent, where it answered.
#[derive(Debug, Serialize)]
pub(crate) struct Agent {
    pub(crate) address: String,
    pub(crate) version: Option<String>,
    pub(crate) kernel: Option<String>,
    pub(crate) features: Vec<String>,
}

impl Agent {
    pub(crate) fn new(address: String, greeting: Option<&Greeting>) -> Self {
        Self {
            address,
            version: greeting.map(|greeting| greeting.version.clone()),
            kernel: greeting.map(|greeting| greeting.kernel.clone()),
            features: greeting.map_or_else(Vec::new, |greeting| greeting.features.clone()),
        }
    }
}

/// A card of ours.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CardLine {
    pub(crate) name: String,
    /// The TAP on the host; absent where the journal has lost the card.
    pub(crate) device: Option<String>,
    pub(crate) hw_addr: Option<String>,
    pub(crate) pci_addr: Option<String>,
    /// Where its operation stands, by the journal.
    pub(crate) phase: Option<Phase>,
}

/// Something that is not there.
#[derive(Debug, Serialize)]
pub(crate) struct Lack {
    pub(crate) part: &'static str,
    /// What can't be had without it, in a sentence.
    pub(crate) cost: &'static str,
    /// Absent where plugging goes on without.
    #[serde(skip_serializing_if = "Option::is_none", rename = "blocks")]
    pub(crate) blocker: Option<Blocker>,
}

impl Report {
    /// The first reason why nothing can be plugged.
    pub(crate) fn blocker(&self) -> Option<&Failure> {
        let mut blockers = self.missing.iter().filter_map(|lack| lack.blocker.as_ref());
        blockers.next().map(|Blocker(failure)| failure)
    }
}

/// Why nothing can be plugged; one sentence in JSON.
#[derive(Debug)]
pub(crate) struct Blocker(pub(crate) Failure);

impl Serialize for Blocker {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&output::error_line(&self.0))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sandbox    {}", self.id)?;
        let Monitor {
            path,
            free,
            greeting_ms,
        } = &self.monitor;
        let state = if *free { "free" } else { "does not serve us" };
        let path = escape_controls(path);
        writeln!(f, "monitor    {path}: {state}, after {greeting_ms} ms")?;
        if let Some(machine) = &self.machine {
            write!(f, "{machine}")?;
        }
        write!(f, "agent      {}", escape_controls(&self.agent.address))?;
        if let Some((version, kernel)) = self.agent.version.iter().zip(&self.agent.kernel).next() {
            write!(f, ": version {version}, kernel {kernel}")?;
            write!(f, ", features: {}", self.agent.features.join(" "))?;
        }
        writeln!(f)?;
        if let Some(netns) = &self.netns {
            writeln!(f, "netns      {}", escape_controls(netns))?;
        }
        let vhost = if self.vhost_net { "yes" } else { "no" };
        writeln!(f, "vhost-net  {vhost}")?;
        for card in &self.cards {
            writeln!(f, "card       {card}")?;
        }
        for Lack {
            part,
            cost,
            blocker,
        } in &self.missing
        {
            writeln!(f, "missing    {part}: {cost}")?;
            if let Some(Blocker(failure)) = blocker {
                writeln!(f, "           {}", output::error_line(failure))?;
            }
        }
        let verdict = match self.blocker() {
            None => "cards can be plugged",
            Some(_) => "no card can be plugged now",
        };
        writeln!(f, "verdict    {verdict}")
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            r#type,
            qemu,
            state,
            ..
        } = self;
        let (kind, state) = (escape_controls(r#type), escape_controls(state));
        writeln!(f, "machine    {kind}, QEMU {qemu}, {state}")?;
        let memory = if self.shared_memory {
            "shared"
        } else {
            "not shared"
        };
        writeln!(f, "memory     {memory}")?;
        let buses = self
            .slots
            .iter()
            .map(|slots| format!("{} on {}", slots.free, escape_controls(&slots.bus)));
        let free: usize = self.slots.iter().map(|slots| slots.free).sum();
        let buses: Vec<String> = buses.collect();
        writeln!(f, "slots      {free} free: {}", buses.join(", "))?;
        let unplugging = match self.hotplug {
            Mechanism::Acpi => "by ACPI, which takes less than half a second",
            Mechanism::Native => "by native hot-plug, which takes about 6 s",
        };
        writeln!(f, "unplugging {unplugging}")
    }
}

impl fmt::Display for CardLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |part: &Option<String>| {
            part.as_deref()
                .map_or_else(|| "-".to_owned(), escape_controls)
        };
        let phase = match self.phase {
            Some(Phase::Plugged) => "plugged",
            Some(Phase::Adding) => "being plugged",
            Some(Phase::Removing) => "being unplugged",
            None => "unknown to the journal",
        };
        let (device, mac, pci) = (
            text(&self.device),
            text(&self.hw_addr),
            text(&self.pci_addr),
        );
        let name = escape_controls(&self.name);
        write!(f, "{name}: {mac} at {pci}, from {device}, {phase}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBEYED: &str = "x\x1b[2J\nverdict    cards can be plugged\u{202e}";

    #[test]
    fn what_qemu_and_files_say_is_shown_as_text() {
        let text = || OBEYED.to_owned();
        let report = Report {
            id: "6ec7".to_owned(),
            monitor: Monitor {
                path: text(),
                free: true,
                greeting_ms: 1,
            },
            machine: Some(Machine {
                r#type: text(),
                qemu: "10.0.2".to_owned(),
                state: text(),
                shared_memory: true,
                hotplug: Mechanism::Acpi,
                slots: vec![Slots {
                    bus: text(),
                    free: 1,
                }],
            }),
            agent: Agent::new(text(), None),
            netns: Some(text()),
            vhost_net: true,
            cards: vec![CardLine {
                name: text(),
                device: Some(text()),
                hw_addr: None,
                pci_addr: None,
                phase: None,
            }],
            missing: Vec::new(),
        };
        let shown = report.to_string();
        assert_eq!(shown.lines().count(), 11, "{shown}");
        assert!(!shown.contains(['\x1b', '\u{202e}']), "{shown:?}");
    }
}
