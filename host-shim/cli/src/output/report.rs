//! Report of `doctor` as text.

use std::fmt;

use patchbay_host::ops::{
    CardStatus, Examination, MachineStatus, Mechanism, Missing, MonitorStatus,
};
use patchbay_host::sandbox::Phase;
use patchbay_types::text::escape_controls;

/// Report as lines of text.
#[derive(Debug)]
pub(crate) struct Report<'a>(pub(crate) &'a Examination);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Examination {
            id,
            monitor,
            machine,
            agent,
            netns,
            vhost_net,
            cards,
            missing,
        } = self.0;
        writeln!(f, "sandbox    {id}")?;
        let MonitorStatus {
            path,
            free,
            greeting_ms,
        } = monitor;
        let state = if *free { "free" } else { "does not serve us" };
        let path = escape_controls(path);
        writeln!(f, "monitor    {path}: {state}, after {greeting_ms} ms")?;
        if let Some(machine) = machine {
            write_machine(f, machine)?;
        }
        write!(f, "agent      {}", escape_controls(&agent.address))?;
        if let Some((version, kernel)) = agent.version.as_ref().zip(agent.kernel.as_ref()) {
            let features = agent.features.join(" ");
            write!(
                f,
                ": version {version}, kernel {kernel}, features: {features}"
            )?;
        }
        writeln!(f)?;
        if let Some(netns) = netns {
            writeln!(f, "netns      {}", escape_controls(netns))?;
        }
        let vhost = if *vhost_net { "yes" } else { "no" };
        writeln!(f, "vhost-net  {vhost}")?;
        for card in cards {
            write_card(f, card)?;
        }
        for Missing {
            requirement,
            blocker,
        } in missing
        {
            writeln!(f, "missing    {}: {}", requirement.part, requirement.impact)?;
            if let Some(blocker) = blocker {
                writeln!(f, "           {}", blocker.line())?;
            }
        }
        let verdict = match self.0.blocker() {
            None => "cards can be plugged",
            Some(_) => "no card can be plugged now",
        };
        writeln!(f, "verdict    {verdict}")
    }
}

fn write_machine(f: &mut fmt::Formatter<'_>, machine: &MachineStatus) -> fmt::Result {
    let MachineStatus {
        r#type,
        qemu,
        state,
        shared_memory,
        hotplug,
        slots,
    } = machine;
    let (kind, state) = (escape_controls(r#type), escape_controls(state));
    writeln!(f, "machine    {kind}, QEMU {qemu}, {state}")?;
    let memory = if *shared_memory {
        "shared"
    } else {
        "not shared"
    };
    writeln!(f, "memory     {memory}")?;
    let free: usize = slots.iter().map(|slots| slots.free).sum();
    let buses = slots.iter();
    let buses = buses.map(|slots| format!("{} on {}", slots.free, escape_controls(&slots.bus)));
    let buses = buses.collect::<Vec<_>>().join(", ");
    writeln!(f, "slots      {free} free: {buses}")?;
    let unplugging = match hotplug {
        Mechanism::Acpi => "by ACPI, which takes less than half a second",
        Mechanism::Native => "by native hot-plug, which takes about 6 s",
    };
    writeln!(f, "unplugging {unplugging}")
}

fn write_card(f: &mut fmt::Formatter<'_>, card: &CardStatus) -> fmt::Result {
    let text = |part: &Option<String>| part.as_deref().map_or("-".to_owned(), escape_controls);
    let phase = match card.phase {
        Some(Phase::Plugged) => "plugged",
        Some(Phase::Adding) => "being plugged",
        Some(Phase::Removing) => "being unplugged",
        None => "unknown to the journal",
    };
    let name = escape_controls(&card.name);
    let (mac, pci) = (text(&card.hw_addr), text(&card.pci_addr));
    let device = text(&card.device);
    writeln!(
        f,
        "card       {name}: {mac} at {pci}, from {device}, {phase}"
    )
}

#[cfg(test)]
mod tests {
    use patchbay_host::ops::{AgentStatus, BusSlots, Requirement};

    use super::*;

    const CONTROLS: &str = "x\x1b[2J\nverdict    cards can be plugged\u{202e}";

    #[test]
    fn report_escapes_untrusted_text() {
        let text = || CONTROLS.to_owned();
        let examination = Examination {
            id: "6ec7".to_owned(),
            monitor: MonitorStatus {
                path: text(),
                free: true,
                greeting_ms: 1,
            },
            machine: Some(MachineStatus {
                r#type: text(),
                qemu: "10.0.2".to_owned(),
                state: text(),
                shared_memory: true,
                hotplug: Mechanism::Acpi,
                slots: vec![BusSlots {
                    bus: text(),
                    free: 1,
                }],
            }),
            agent: AgentStatus {
                address: text(),
                version: None,
                kernel: None,
                features: Vec::new(),
            },
            netns: Some(text()),
            vhost_net: true,
            cards: vec![CardStatus {
                name: text(),
                device: Some(text()),
                hw_addr: None,
                pci_addr: None,
                phase: None,
            }],
            missing: Vec::new(),
        };
        let shown = Report(&examination).to_string();
        assert_eq!(shown.lines().count(), 11, "{shown}");
        assert!(!shown.contains(['\x1b', '\u{202e}']), "{shown:?}");
    }

    #[test]
    fn report_json_keeps_its_keys_in_order() {
        let examination = Examination {
            id: "6ec7".to_owned(),
            monitor: MonitorStatus {
                path: "/q".to_owned(),
                free: false,
                greeting_ms: 5000,
            },
            machine: None,
            agent: AgentStatus {
                address: "vsock://3:1061".to_owned(),
                version: None,
                kernel: None,
                features: Vec::new(),
            },
            netns: None,
            vhost_net: false,
            cards: Vec::new(),
            missing: vec![Missing {
                requirement: Requirement {
                    part: "network namespace",
                    impact: "the sandbox's TAP devices can't be reached",
                },
                blocker: None,
            }],
        };
        let json = r#"{"id":"6ec7","monitor":{"path":"/q","free":false,"greetingMs":5000},"machine":null,"agent":{"address":"vsock://3:1061","version":null,"kernel":null,"features":[]},"netns":null,"vhostNet":false,"cards":[],"missing":[{"part":"network namespace","cost":"the sandbox's TAP devices can't be reached"}]}"#;
        assert_eq!(serde_json::to_string(&examination).unwrap(), json);
    }
}
