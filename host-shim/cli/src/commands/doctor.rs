//! `doctor`: everything that plugging needs is asked, nothing is changed, no lock is taken.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use patchbay_types::failure::{Failure, Kind};

use crate::args::{DoctorArgs, GlobalArgs};
use crate::output::report::{self, Blocker, CardLine, Lack, Machine, Monitor, Report, Slots};
use crate::output::{Outcome, json_line};
use patchbay_host::agent::Agent;
use patchbay_host::hotplug::{self, Inventory, Mechanism, Nic};
use patchbay_host::qmp::command::{QomGet, QueryStatus, QueryVersion};
use patchbay_host::qmp::{Error, Session};
use patchbay_host::sandbox::{CardRecord, Journal, Phase, Sandbox};

const MONITOR: &str = "no card can be plugged, unplugged or listed without QEMU's monitor";
const RUNNING: &str = "a guest that stands neither answers nor lets a card go";
const AGENT: &str = "a card would stay without name and address, so none is plugged";
const SLOT: &str = "there is no place for another card until one is unplugged";
const TUN: &str = "a TAP can't be opened, so no card can be connected to the host";
const NETNS: &str = "the sandbox's TAP devices can't be reached";
const JOURNAL: &str = "no card can be plugged or unplugged until that file is put right";
const IN_FLIGHT: &str = "a command died or is at work; the next change clears its card away first";
const SHARED: &str = "vhost-user (DPDK) cards can't be plugged, because their backend maps the \
                      guest's memory: QEMU needs memory-backend-memfd,share=on";
const VHOST_NET: &str = "QEMU carries each packet of a TAP card itself, which costs throughput and CPU \
                         time: load the module vhost_net on the host";
const ACPI: &str = "unplugging takes about 6 s, because native hot-plug waits 5 s for an operator";

pub(super) fn run(global: &GlobalArgs, args: &DoctorArgs) -> Outcome {
    let sandbox = match global.find(&args.sandbox) {
        Ok(sandbox) => sandbox,
        Err(failure) if args.json => return Outcome::json_null_or(Err(failure)),
        Err(failure) => return Outcome::silent_or(Err(failure)),
    };
    let report = Examination::default().of(&sandbox);
    let blocker = report.blocker().cloned();
    let text = if args.json {
        json_line(&report)
    } else {
        Ok(report.to_string())
    };
    match (text, blocker) {
        (Ok(text), Some(failure)) => Outcome::failed(text, failure),
        (text, _) => Outcome::silent_or(text),
    }
}

/// What the monitor told.
struct Told {
    machine: Machine,
    running: bool,
    nics: Vec<Nic>,
}

#[derive(Default)]
struct Examination {
    missing: Vec<Lack>,
}

impl Examination {
    fn of(mut self, sandbox: &Sandbox) -> Report {
        let begun = Instant::now();
        let session = Session::connect(&sandbox.qmp).map_err(Failure::from);
        let greeting_ms = begun.elapsed().as_millis();
        let session = self.need("monitor", MONITOR, session);
        let monitor = Monitor {
            path: sandbox.qmp.display().to_string(),
            free: session.is_some(),
            greeting_ms,
        };
        let told = session.and_then(|mut qmp| {
            let told = ask(&mut qmp).map_err(Failure::from);
            self.need("monitor", MONITOR, told)
        });
        if let Some(told) = &told {
            self.machine(told);
        }
        let stands = told.as_ref().is_some_and(|told| !told.running);
        // The proxy for vsock does not survive a connection to a machine that stands.
        let greeting = if stands {
            None
        } else {
            let greeting = Agent::connect(&sandbox.agent).and_then(|agent| agent.greeting());
            self.need("agent", AGENT, greeting)
        };
        let vhost_net = self.host(sandbox);
        let (machine, nics) =
            told.map_or((None, Vec::new()), |told| (Some(told.machine), told.nics));
        let cards = self.cards(sandbox, &nics);
        Report {
            id: sandbox.id.to_string(),
            monitor,
            machine,
            agent: report::Agent::new(sandbox.agent.to_string(), greeting.as_ref()),
            netns: sandbox
                .netns
                .as_ref()
                .map(|netns| netns.display().to_string()),
            vhost_net,
            cards,
            missing: self.missing,
        }
    }

    /// What plugging can't do without.
    fn need<T>(
        &mut self,
        part: &'static str,
        cost: &'static str,
        got: Result<T, Failure>,
    ) -> Option<T> {
        let lack = |failure| Lack {
            part,
            cost,
            blocker: Some(Blocker(failure)),
        };
        got.map_err(|failure| self.missing.push(lack(failure))).ok()
    }

    /// What plugging can do without, at a price.
    fn want(&mut self, part: &'static str, cost: &'static str) {
        self.missing.push(Lack {
            part,
            cost,
            blocker: None,
        });
    }

    fn machine(&mut self, told: &Told) {
        if !told.running {
            let sentence = format!(
                "the machine is not running: its state is {}",
                told.machine.state
            );
            let failure = Failure::new(Kind::NotYet, sentence);
            self.need::<()>("running machine", RUNNING, Err(failure));
        }
        if told.machine.slots.is_empty() {
            self.need::<()>("free slot", SLOT, Err(hotplug::none_free()));
        }
        if !told.machine.shared_memory {
            self.want("shared memory", SHARED);
        }
        if told.machine.hotplug == Mechanism::Native {
            self.want("ACPI hot-plug", ACPI);
        }
    }

    /// Looks at the host; whether it has vhost-net.
    fn host(&mut self, sandbox: &Sandbox) -> bool {
        self.need("/dev/net/tun", TUN, opened(Path::new("/dev/net/tun")));
        if let Some(netns) = &sandbox.netns {
            self.need("network namespace", NETNS, opened(netns));
        }
        let vhost_net = opened(Path::new("/dev/vhost-net")).is_ok();
        if !vhost_net {
            self.want("/dev/vhost-net", VHOST_NET);
        }
        vhost_net
    }

    /// The cards that QEMU has, and those of which only the journal knows.
    fn cards(&mut self, sandbox: &Sandbox, nics: &[Nic]) -> Vec<CardLine> {
        let journal = Journal::at(sandbox.state.path()).cards();
        let mut journal = self.need("journal", JOURNAL, journal).unwrap_or_default();
        journal.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        if journal.iter().any(|card| card.phase != Phase::Plugged) {
            self.want("finished operation", IN_FLIGHT);
        }
        let named = nics.iter().filter_map(|nic| {
            let name = nic.id.strip_prefix(CardRecord::DEVICE_PREFIX)?;
            let known = journal.iter().find(|card| card.name.as_str() == name);
            Some(line(name, known, Some(nic)))
        });
        let has = |card: &&CardRecord| {
            nics.iter()
                .all(|nic| nic.id != CardRecord::device_id(&card.name))
        };
        let lost = journal.iter().filter(has);
        let lost = lost.map(|card| line(card.name.as_str(), Some(card), None));
        named.chain(lost).collect()
    }
}

fn line(name: &str, card: Option<&CardRecord>, nic: Option<&Nic>) -> CardLine {
    CardLine {
        name: name.to_owned(),
        device: card.map(|card| card.device.to_string()),
        hw_addr: nic.map(|nic| nic.mac.to_string()),
        pci_addr: nic.and_then(|nic| Some(nic.path.as_ref()?.to_string())),
        phase: card.map(|card| card.phase),
    }
}

fn ask(qmp: &mut Session) -> Result<Told, Error> {
    let version = qmp.run(&QueryVersion {})?.qemu;
    let state = qmp.run(&QueryStatus {})?;
    let kind = qmp.run(&QomGet {
        path: "/machine",
        property: "type",
    })?;
    let kind = kind.as_str().unwrap_or_default();
    let inventory = Inventory::read(qmp)?;
    let slots = hotplug::free_by_bus(&inventory).into_iter();
    let machine = Machine {
        r#type: kind.strip_suffix("-machine").unwrap_or(kind).to_owned(),
        qemu: format!("{}.{}.{}", version.major, version.minor, version.micro),
        state: state.status,
        // All of it: a backend maps every piece.
        shared_memory: hotplug::memory_is_shared(qmp)?,
        hotplug: inventory.mechanism(),
        slots: slots.map(|(bus, free)| Slots { bus, free }).collect(),
    };
    Ok(Told {
        machine,
        running: state.running,
        nics: inventory.nics(),
    })
}

fn opened(path: &Path) -> Result<File, Failure> {
    let opened = File::options().read(true).open(path);
    opened.map_err(|error| {
        let kind = error.raw_os_error().map_or(Kind::Other, Kind::from_errno);
        let sentence = format!("could not open {}", path.display());
        Failure::new(kind, sentence).with_cause(error.to_string())
    })
}
