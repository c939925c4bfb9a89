//! Report of `doctor` as text.

use std::fmt;

use patchbay_host::ops::{
    BusSlots, CardStatus, Examination, MachineStatus, ManagerStatus, Mechanism, Requirement,
};
use patchbay_host::sandbox::Phase;
use patchbay_types::text::escape_controls;

/// Report as lines of text.
#[derive(Debug)]
pub(crate) struct Report<'a>(pub(crate) &'a Examination);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(examination) = self;
        writeln!(f, "sandbox    {}", examination.id)?;
        let monitor = &examination.monitor;
        let state = if monitor.free {
            "free"
        } else {
            "does not serve us"
        };
        let (path, millis) = (escape_controls(&monitor.path), monitor.greeting_ms);
        write!(f, "monitor    {path}: {state}, after {millis} ms")?;
        match monitor.libvirt {
            Some(uri) => writeln!(f, ", shared by libvirt at {uri}")?,
            None => writeln!(f)?,
        }
        if let Some(machine) = &examination.machine {
            write_machine(f, machine)?;
        }
        let agent = &examination.agent;
        write!(f, "agent      {}", escape_controls(&agent.address))?;
        if let Some((program, version)) = agent.program.zip(agent.version.as_ref()) {
            write!(f, ": {program} {version}")?;
            if let Some(kernel) = &agent.kernel {
                write!(f, ", kernel {kernel}")?;
            }
            write!(f, ", features: {}", agent.features.join(" "))?;
        }
        writeln!(f)?;
        if !agent.lacks.is_empty() {
            let lacks = agent.lacks.join(", ");
            writeln!(
                f,
                "           can't do: {lacks} (these need patchbay-agent in the guest)"
            )?;
        }
        for manager in agent.managers.iter().flatten() {
            write_manager(f, manager)?;
        }
        if let Some(netns) = &examination.netns {
            writeln!(f, "netns      {}", escape_controls(netns))?;
        }
        let vhost = if examination.vhost_net { "yes" } else { "no" };
        writeln!(f, "vhost-net  {vhost}")?;
        for card in &examination.cards {
            write_card(f, card)?;
        }
        for missing in &examination.missing {
            let Requirement { part, impact } = missing.requirement;
            writeln!(f, "missing    {part}: {impact}")?;
            if let Some(blocker) = &missing.blocker {
                writeln!(f, "           {}", blocker.line())?;
            }
        }
        let verdict = match examination.blocker() {
            None => "cards can be plugged",
            Some(_) => "no card can be plugged now",
        };
        writeln!(f, "verdict    {verdict}")
    }
}

fn write_machine(f: &mut fmt::Formatter<'_>, machine: &MachineStatus) -> fmt::Result {
    let (kind, state) = (
        escape_controls(&machine.r#type),
        escape_controls(&machine.state),
    );
    writeln!(f, "machine    {kind}, QEMU {}, {state}", machine.qemu)?;
    let not = if machine.shared_memory { "" } else { "not " };
    writeln!(f, "memory     {not}shared")?;
    let free: usize = machine.slots.iter().map(|slots| slots.free).sum();
    let on_bus = |slots: &BusSlots| format!("{} on {}", slots.free, escape_controls(&slots.bus));
    let buses = machine
        .slots
        .iter()
        .map(on_bus)
        .collect::<Vec<_>>()
        .join(", ");
    writeln!(f, "slots      {free} free: {buses}")?;
    let unplugging = match machine.hotplug {
        Mechanism::Acpi => "by ACPI, which takes less than half a second",
        Mechanism::Native if machine.fast_unplug => "by native hot-plug with fast-unplug",
        Mechanism::Native => "by native hot-plug, which takes one to six seconds",
    };
    writeln!(f, "unplugging {unplugging}")
}

fn write_manager(f: &mut fmt::Formatter<'_>, manager: &ManagerStatus) -> fmt::Result {
    let (name, pid) = (escape_controls(&manager.name), manager.pid);
    let treatment = if manager.excludes_cards {
        "its configuration excludes the cards"
    } else {
        "it can change the cards"
    };
    writeln!(
        f,
        "manager    {name} (process {pid} of the guest): {treatment}"
    )
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
    let deleted = if card.tap_deleted { " (deleted)" } else { "" };
    write!(
        f,
        "card       {name}: {mac} at {pci}, from {device}{deleted}, {phase}"
    )?;
    if let Some(guest_name) = &card.guest_name {
        write!(f, ", '{}' in the guest", escape_controls(guest_name))?;
    }
    if let Some(state) = &card.state {
        write!(f, ", {}", escape_controls(state))?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use patchbay_host::ops::{AgentStatus, Missing, MonitorStatus};

    use super::*;

    const CONTROLS: &str = "x\x1b[2J\nverdict    cards can be plugged\u{202e}";

    #[test]
    fn report_escapes_untrusted_text() {
        let text = || CONTROLS.to_owned();
        let examination = Examination {
            id: "6ec7".to_owned(),
            monitor: MonitorStatus {
                path: text(),
                libvirt: None,
                free: true,
                greeting_ms: 1,
            },
            machine: Some(MachineStatus {
                r#type: text(),
                qemu: "10.0.2".to_owned(),
                state: text(),
                shared_memory: true,
                hotplug: Mechanism::Acpi,
                fast_unplug: false,
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
                managers: Some(vec![ManagerStatus {
                    name: text(),
                    pid: 7,
                    excludes_cards: false,
                }]),
                program: None,
                lacks: &[],
            },
            netns: Some(text()),
            vhost_net: true,
            cards: vec![CardStatus {
                name: text(),
                device: Some(text()),
                hw_addr: None,
                pci_addr: None,
                phase: None,
                tap_deleted: false,
                guest_name: Some(text()),
                state: Some(text()),
            }],
            missing: Vec::new(),
        };
        let shown = Report(&examination).to_string();
        assert_eq!(shown.lines().count(), 12, "{shown}");
        assert!(!shown.contains(['\x1b', '\u{202e}']), "{shown:?}");
    }

    #[test]
    fn report_json_keeps_its_keys_in_order() {
        let examination = Examination {
            id: "6ec7".to_owned(),
            monitor: MonitorStatus {
                path: "/q".to_owned(),
                libvirt: None,
                free: false,
                greeting_ms: 5000,
            },
            machine: None,
            agent: AgentStatus {
                address: "vsock://3:1061".to_owned(),
                version: None,
                kernel: None,
                features: Vec::new(),
                managers: None,
                program: None,
                lacks: &[],
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
        let json = r#"{"id":"6ec7","monitor":{"path":"/q","libvirt":null,"free":false,"greetingMs":5000},"machine":null,"agent":{"address":"vsock://3:1061","version":null,"kernel":null,"features":[],"managers":null,"program":null,"lacks":[]},"netns":null,"vhostNet":false,"cards":[],"missing":[{"part":"network namespace","cost":"the sandbox's TAP devices can't be reached"}]}"#;
        assert_eq!(serde_json::to_string(&examination).unwrap(), json);
    }
}
