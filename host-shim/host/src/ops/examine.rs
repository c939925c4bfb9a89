//! Examines what plugging needs, without a change and without the lock.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::Failure;
use serde::{Serialize, Serializer};

use super::agent_status::{self, AgentStatus};
use super::card_status::CardStatus;
use super::cards::{self, Card, CardState};
use super::overview;
use super::requirement::Requirement;
use crate::hotplug::{
    self, Inventory, InventoryNic, Mechanism, TapBackends, TapState, fast_unplug,
};
use crate::netns::Netns;
use crate::qmp::command::QueryVersion;
use crate::qmp::{Error, Session};
use crate::reach;
use crate::sandbox::{CardRecord, Journal, Sandbox};

/// State of a sandbox and of the host, as far as plugging needs it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Examination {
    /// Id of the sandbox.
    pub id: String,
    /// QEMU's monitor.
    pub monitor: MonitorStatus,
    /// Machine; `None` if the monitor does not reply.
    pub machine: Option<MachineStatus>,
    /// Agent.
    pub agent: AgentStatus,
    /// Path of the network namespace of the TAP devices; `None`: the caller's.
    pub netns: Option<String>,
    /// Whether the host has vhost-net.
    pub vhost_net: bool,
    /// Cards known to QEMU, then those known only to the journal.
    pub cards: Vec<CardStatus>,
    /// Requirements that are not met.
    pub missing: Vec<Missing>,
}

/// QEMU's monitor.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MonitorStatus {
    /// QMP socket.
    pub path: String,
    /// URI of the libvirtd that has the monitor and sends the commands.
    pub libvirt: Option<&'static str>,
    /// Whether the monitor serves this process.
    pub free: bool,
    /// Time in milliseconds until the greeting or the failure.
    pub greeting_ms: u128,
}

/// Machine, as its monitor describes it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineStatus {
    /// Versioned type, as for `-machine`.
    pub r#type: String,
    /// Version of QEMU.
    pub qemu: String,
    /// QEMU's `RunState`: `running`, `paused`, `prelaunch` and others.
    pub state: String,
    /// Whether vhost-user backends can read the memory.
    pub shared_memory: bool,
    /// Hot-plug mechanism.
    pub hotplug: Mechanism,
    /// Whether native hot-plug waits for no operator (`fast-unplug` of openEuler's QEMU).
    pub fast_unplug: bool,
    /// Buses with free slots, in order of preference.
    pub slots: Vec<BusSlots>,
}

/// Bus with free slots.
#[derive(Debug, Clone, Serialize)]
pub struct BusSlots {
    /// Name of the bus.
    pub bus: String,
    /// Number of free slots.
    pub free: usize,
}

/// Requirement that is not met.
#[derive(Debug, Clone, Serialize)]
pub struct Missing {
    /// The requirement.
    #[serde(flatten)]
    pub requirement: Requirement,
    /// Reason why no card can be plugged; `None` if plugging works without the requirement.
    #[serde(rename = "blocks", skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "as_line")]
    pub blocker: Option<Failure>,
}

#[expect(clippy::ref_option, reason = "the signature that serde needs")]
fn as_line<S: Serializer>(blocker: &Option<Failure>, to: S) -> Result<S::Ok, S::Error> {
    blocker.as_ref().map(Failure::line).serialize(to)
}

/// Declares requirements: `NAME = "part": "impact";`.
macro_rules! requirements {
    ($($name:ident = $part:literal: $impact:literal;)*) => {$(
        const $name: Requirement = Requirement { part: $part, impact: $impact };
    )*};
}

requirements! {
    MONITOR = "monitor":
        "no card can be plugged, unplugged or listed without QEMU's monitor";
    RUNNING_MACHINE = "running machine":
        "the guest is paused: it can't answer or release a card";
    FREE_SLOT = "free slot":
        "another card has no PCI slot until one is unplugged";
    SHARED_MEMORY = "shared memory":
        "vhost-user (DPDK) cards can't be plugged, because their backend maps the guest's \
         memory: QEMU needs memory-backend-memfd,share=on";
    ACPI_HOTPLUG = "ACPI hot-plug":
        "unplugging takes one to two seconds, or about 6 s if the agent doesn't have the feature \
         'release': native hot-plug waits 5 s for an operator";
    AGENT = "agent":
        "a card would have no name and no address, so none is plugged";
    EXCLUDED_CARDS = "excluded cards":
        "a network manager of the guest configures patchbay's cards, too, and can remove their \
         addresses and routes: docs/guests.md has the setting that it needs";
    TUN = "/dev/net/tun":
        "a TAP can't be opened, so no card can be connected to the host";
    NETNS = "network namespace":
        "the sandbox's TAP devices can't be reached";
    VHOST_NET = "/dev/vhost-net":
        "QEMU moves each packet of a TAP card itself, which costs throughput and CPU time: \
         load the module vhost_net on the host";
    JOURNAL = "journal":
        "no card can be plugged or unplugged until that file is repaired";
    TAP_DEVICE = "TAP device":
        "a card's TAP was deleted on the host: unplug the card, because a reset of the guest \
         would end QEMU";
    CONFIGURED_CARD = "configured card":
        "a card has lost its name and addresses with a restart of the guest: 'nic apply', or the \
         same 'nic add' or add-iface again, configures it";
    FINISHED_OPERATION = "finished operation":
        "a command ended early, or the guest holds a card that was unplugged: the next change of \
         cards completes the removal";
}

impl Examination {
    /// Returns the first reason why no card can be plugged.
    #[must_use]
    pub fn blocker(&self) -> Option<&Failure> {
        let mut missing = self.missing.iter();
        missing.find_map(|missing| missing.blocker.as_ref())
    }
}

/// Examines a sandbox. Failures are part of the result.
#[must_use]
pub fn examine(sandbox: &Sandbox) -> Examination {
    let mut findings = Findings::default();
    let begun = Instant::now();
    let session = Session::connect(sandbox.monitor());
    let greeting_ms = begun.elapsed().as_millis();
    let session = findings.require(MONITOR, session);
    let monitor = MonitorStatus {
        path: sandbox.qmp.display().to_string(),
        libvirt: sandbox.shared_monitor.as_ref().map(|shared| shared.uri),
        free: session.is_some(),
        greeting_ms,
    };
    let info = session.and_then(|mut qmp| {
        let info = QemuInfo::read(&mut qmp, &sandbox.agent);
        findings.require(MONITOR, info)
    });
    if let Some(info) = &info {
        findings.check_machine(info);
    }
    // The monitor's own finding covers a sandbox without state.
    let state = sandbox.state().ok();
    let records = state.map(|state| Journal::at(state.path()).cards());
    let known = records.iter().flatten().flatten();
    let known: Vec<CardRecord> = known.cloned().collect();
    let (agent, claims) = findings.agent(sandbox, info.as_ref(), &known);
    let vhost_net = findings.host(sandbox);
    let cards = findings.cards(records, info.as_ref(), &claims);
    let netns = sandbox.netns.as_ref();
    Examination {
        id: sandbox.id.to_string(),
        monitor,
        machine: info.map(|info| info.machine),
        agent,
        netns: netns.map(|netns| netns.display().to_string()),
        vhost_net,
        cards,
        missing: findings.missing,
    }
}

/// Replies of the monitor.
struct QemuInfo {
    machine: MachineStatus,
    running: Result<(), Failure>,
    /// Failure if a connection to the agent isn't safe.
    reachable: Result<(), Failure>,
    nics: Vec<InventoryNic>,
    taps: TapBackends,
}

impl QemuInfo {
    fn read(qmp: &mut Session, agent: &Endpoint) -> Result<Self, Error> {
        let version = qmp.run(&QueryVersion {})?.qemu;
        let inventory = Inventory::read(qmp)?;
        let slots = hotplug::free_by_bus(&inventory).into_iter();
        let machine = MachineStatus {
            r#type: overview::machine_type(qmp)?,
            qemu: format!("{}.{}.{}", version.major, version.minor, version.micro),
            state: qmp.status().status.clone(),
            shared_memory: hotplug::is_memory_shared(qmp)?,
            hotplug: inventory.mechanism,
            fast_unplug: inventory.mechanism == Mechanism::Native
                && fast_unplug::is_set(qmp, &inventory)?,
            slots: slots.map(|(bus, free)| BusSlots { bus, free }).collect(),
        };
        Ok(Self {
            machine,
            running: qmp.check_running().map_err(Failure::from),
            reachable: reach::check(qmp, agent),
            nics: inventory.nics(),
            taps: TapBackends::read(qmp)?,
        })
    }
}

/// Missing requirements found so far.
#[derive(Default)]
struct Findings {
    missing: Vec<Missing>,
}

impl Findings {
    /// Records a failure that prevents plugging.
    fn require<T>(
        &mut self,
        requirement: Requirement,
        result: Result<T, impl Into<Failure>>,
    ) -> Option<T> {
        result
            .map_err(|failure| self.push(requirement, Some(failure.into())))
            .ok()
    }

    /// Records a missing requirement; plugging works without it unless there is a `blocker`.
    fn push(&mut self, requirement: Requirement, blocker: Option<Failure>) {
        self.missing.push(Missing {
            requirement,
            blocker,
        });
    }

    fn check_machine(&mut self, info: &QemuInfo) {
        let machine = &info.machine;
        self.require(RUNNING_MACHINE, info.running.clone());
        if machine.slots.is_empty() {
            self.require::<()>(FREE_SLOT, Err(hotplug::no_free_slot()));
        }
        if !machine.shared_memory {
            self.push(SHARED_MEMORY, None);
        }
        if machine.hotplug != Mechanism::Acpi && !machine.fast_unplug {
            self.push(ACPI_HOTPLUG, None);
        }
    }

    /// Checks the agent; returns its status and the cards as the guest has them.
    fn agent(
        &mut self,
        sandbox: &Sandbox,
        info: Option<&QemuInfo>,
        records: &[CardRecord],
    ) -> (AgentStatus, Vec<Card>) {
        // A vsock proxy can be broken by a connection to a machine that doesn't run.
        let answers = info.filter(|info| info.running.is_ok()).and_then(|info| {
            let query = || agent_status::query(sandbox, cards::of_machine(&info.nics), records);
            let answers = info.reachable.clone().and_then(|()| query());
            self.require(AGENT, answers)
        });
        for requirement in answers.iter().flat_map(|answers| &answers.ipvs) {
            self.push(*requirement, None);
        }
        let (status, claims) = agent_status::split(&sandbox.agent, answers);
        let mut managers = status.managers.iter().flatten();
        if managers.any(|manager| !manager.excludes_cards) {
            self.push(EXCLUDED_CARDS, None);
        }
        let is_unconfigured = |card: &Card| card.state == Some(CardState::NotConfigured);
        if claims.iter().any(is_unconfigured) {
            self.push(CONFIGURED_CARD, None);
        }
        (status, claims)
    }

    /// Checks the host; returns whether it has vhost-net.
    fn host(&mut self, sandbox: &Sandbox) -> bool {
        self.require(TUN, open(Path::new("/dev/net/tun")));
        if let Some(netns) = &sandbox.netns {
            self.require(NETNS, Netns::open(netns));
        }
        let vhost_net = open(Path::new("/dev/vhost-net")).is_ok();
        if !vhost_net {
            self.push(VHOST_NET, None);
        }
        vhost_net
    }

    fn cards(
        &mut self,
        records: Option<Result<Vec<CardRecord>, Failure>>,
        info: Option<&QemuInfo>,
        claims: &[Card],
    ) -> Vec<CardStatus> {
        let records = records.and_then(|records| self.require(JOURNAL, records));
        let mut records = records.unwrap_or_default();
        records.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        if records.iter().any(CardRecord::is_left) {
            self.push(FINISHED_OPERATION, None);
        }
        let nics = info.map_or(&[][..], |info| &info.nics);
        let machine = cards::of_machine(nics);
        let plugged = machine.iter().map(|card| {
            let record = records.iter().find(|record| record.name == card.name);
            let claim = claims.iter().find(|claim| claim.name == card.name);
            let nic = nics
                .iter()
                .find(|nic| nic.name() == Some(card.name.as_str()));
            let tap = info.zip(nic).map(|(info, nic)| info.taps.state_of(nic));
            CardStatus {
                tap_deleted: tap == Some(TapState::Deleted),
                ..CardStatus::new(&card.name, record, Some(claim.unwrap_or(card)))
            }
        });
        let is_lost = |record: &&CardRecord| machine.iter().all(|card| card.name != record.name);
        let lost = records.iter().filter(is_lost);
        let lost = lost.map(|record| CardStatus::new(&record.name, Some(record), None));
        let cards: Vec<_> = plugged.chain(lost).collect();
        if cards.iter().any(|card| card.tap_deleted) {
            self.push(TAP_DEVICE, None);
        }
        cards
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    let message = || format!("could not open {}", path.display());
    File::open(path).map_err(|error| Failure::of_io(message(), &error))
}
