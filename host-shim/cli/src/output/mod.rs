//! The only place that prints.

mod flows;
pub(crate) mod ipvs;
pub(crate) mod ipvs_json;
pub(crate) mod ipvs_table;
mod print;
mod progress;
pub(crate) mod report;
mod sysctl;
mod table;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use patchbay_types::failure::Failure;
use patchbay_types::{Interface, InterfaceAddress, LinkChange, Mtu, PciPath, QueuePairs};
use serde::Serialize;

pub use flows::FlowRow;
pub(crate) use progress::Progress;
pub use sysctl::SysctlRow;

use crate::args::Printing;
use crate::input::route::RouteText;
use crate::input::{RawAddress, RawInterface};
use crate::output::report::Report;
use crate::timings::Timings;
use patchbay_host::card::{Backend, CardRequest, Listener};

/// What goes to standard output: one compact line of JSON, but where it says otherwise.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Output {
    /// `null`: nothing to tell, or a failure.
    Null,
    /// A document of ours.
    Document(serde_json::Value),
    /// Rows for people.
    Rows(serde_json::Value),
    /// A card that was plugged.
    Added(Added),
    /// The cards that are plugged.
    Listed(Vec<Listed>),
    /// A request that failed, as it was made.
    Echo(Echo),
    /// An interface that was changed.
    Updated(Updated),
    /// Routes.
    Routes(Vec<RouteText>),
    /// Cards, for a native command.
    Cards(Vec<Row>),
    /// Tracked flows.
    Flows(Vec<FlowRow>),
    /// Settings of IPVS.
    Sysctls(Vec<SysctlRow>),
    /// What a sandbox can do.
    Report(Box<Report>),
    /// No line at all.
    #[serde(skip)]
    Nothing,
    /// This, as it is.
    #[serde(skip)]
    Text(Vec<u8>),
}

/// How output is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For programs.
    Json,
    /// For people.
    Table,
}

impl From<&Printing> for Form {
    /// A table where a person reads it, unless JSON is asked for.
    fn from(printing: &Printing) -> Self {
        if printing.json || !io::stdout().is_terminal() {
            Self::Json
        } else {
            Self::Table
        }
    }
}

impl Output {
    /// Routes; the incumbent prints `null` for none.
    pub(crate) fn routes(routes: Vec<RouteText>) -> Self {
        if routes.is_empty() {
            Self::Null
        } else {
            Self::Routes(routes)
        }
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    output: Output,
    form: Form,
    failure: Option<Failure>,
}

impl Ended {
    /// Well, with something to print.
    #[must_use]
    pub fn with(output: Output) -> Self {
        Self {
            output,
            form: Form::Json,
            failure: None,
        }
    }

    /// Badly; `output` is what the incumbent prints then.
    #[must_use]
    pub fn badly(output: Output, failure: Failure) -> Self {
        Self {
            output,
            form: Form::Json,
            failure: Some(failure),
        }
    }

    /// The same, printed in another form.
    pub(crate) fn printed(self, printing: &Printing) -> Self {
        let form = printing.into();
        Self { form, ..self }
    }
}

/// The reply of `add-iface`; keys and their order are the incumbent's.
#[derive(Debug, Serialize)]
pub struct Added {
    device: String,
    name: String,
    #[serde(rename = "IPAddresses", skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Address>,
    mtu: u16,
    #[serde(rename = "hwAddr")]
    mac: String,
    #[serde(rename = "pciAddr")]
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<u16>,
    #[serde(rename = "vhostUserSocket", skip_serializing_if = "Option::is_none")]
    socket: Option<String>,
    #[serde(rename = "vhostUserMode", skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
}

impl Added {
    pub(crate) fn new(request: &CardRequest, path: &PciPath) -> Self {
        let parts = request.link.parts();
        Self {
            device: request.device.to_string(),
            name: parts.name.to_string(),
            addresses: parts.addresses.iter().map(Address::from).collect(),
            mtu: parts.mtu.get(),
            mac: parts.mac.to_string(),
            path: path.to_string(),
            queues: parts.queues.map(QueuePairs::get),
            socket: match &request.backend {
                Backend::Tap => None,
                Backend::VhostUser(socket, _) => Some(socket.to_string()),
            },
            mode: match &request.backend {
                Backend::Tap | Backend::VhostUser(_, Listener::Backend) => None,
                Backend::VhostUser(_, Listener::Qemu) => Some("server"),
            },
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Address {
    family: u32,
    address: String,
    mask: String,
}

impl From<&InterfaceAddress> for Address {
    fn from(address: &InterfaceAddress) -> Self {
        Self {
            family: if address.ip().is_ipv4() { 2 } else { 10 },
            address: address.ip().to_string(),
            mask: address.prefix().to_string(),
        }
    }
}

impl From<RawAddress> for Address {
    fn from(raw: RawAddress) -> Self {
        Self {
            family: raw.family.unwrap_or_default(),
            address: raw.address.unwrap_or_default(),
            mask: raw.mask.unwrap_or_default(),
        }
    }
}

/// A card of `list-ifaces`; keys and their order are the incumbent's.
#[derive(Debug, Serialize)]
pub struct Listed {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ip: Vec<String>,
    mtu: u32,
}

impl From<Interface> for Listed {
    fn from(interface: Interface) -> Self {
        Self {
            name: interface.name,
            mac: interface.mac.map(|mac| mac.to_string()),
            ip: interface
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            mtu: interface.mtu,
        }
    }
}

/// A card of `nic list`.
#[derive(Debug, Serialize)]
pub struct Row {
    name: String,
    #[serde(rename = "hwAddr", skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    mtu: u32,
    up: bool,
    #[serde(rename = "IPAddresses")]
    addresses: Vec<Address>,
    #[serde(rename = "pciAddr", skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<u16>,
}

impl From<&Interface> for Row {
    fn from(interface: &Interface) -> Self {
        Self {
            name: interface.name.clone(),
            mac: interface.mac.map(|mac| mac.to_string()),
            mtu: interface.mtu,
            up: interface.up,
            addresses: interface.addresses.iter().map(Address::from).collect(),
            path: interface.path.as_ref().map(ToString::to_string),
            queues: interface.queues.map(QueuePairs::get),
        }
    }
}

/// The reply of `update-iface`: what was asked, in the incumbent's keys.
#[derive(Debug, Serialize)]
pub struct Updated {
    name: String,
    #[serde(rename = "IPAddresses", skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,
}

impl From<&LinkChange> for Updated {
    fn from(change: &LinkChange) -> Self {
        let addresses = change.addresses().unwrap_or_default();
        Self {
            name: change.name().to_string(),
            addresses: addresses.iter().map(Address::from).collect(),
            mtu: change.mtu().map(Mtu::get),
        }
    }
}

/// A request of `del-iface` that failed; the incumbent repeats it with a link type.
#[derive(Debug, Serialize)]
pub struct Echo {
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "IPAddresses", skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u64>,
    #[serde(rename = "hwAddr", skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(rename = "linkType")]
    link_type: String,
}

impl From<RawInterface> for Echo {
    fn from(raw: RawInterface) -> Self {
        let addresses = raw.addresses.unwrap_or_default().into_iter().flatten();
        Self {
            device: raw.device,
            name: raw.name,
            addresses: addresses.map(Address::from).collect(),
            mtu: raw.mtu,
            mac: raw.mac,
            link_type: raw.link_type.unwrap_or_else(|| "tap".to_owned()),
        }
    }
}

/// Prints a command's end: JSON on standard output, a failure as one line on standard error.
/// Text of a guest inside the JSON is escaped by JSON, inside a failure by [`Failure`].
#[must_use]
pub fn finish(ended: Ended) -> ExitCode {
    let printed = print::print(&ended.output, ended.form);
    let Some(failure) = ended.failure else {
        return match printed {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    };
    let sentence = sentence(&failure);
    // Nobody is left to be told that standard error is closed.
    let _ = writeln!(io::stderr(), "patchbay: {sentence}");
    ExitCode::from(failure.kind().exit_code())
}

/// Prints where the time went.
pub fn timings(timings: &Timings) {
    // Nobody is left to be told that standard error is closed.
    let _ = write!(io::stderr(), "{timings}");
}

/// A failure and its causes as one sentence, in which a terminal finds nothing to obey: words of
/// QEMU's are in it too, and an operator's own path may have any byte.
pub(crate) fn sentence(failure: &Failure) -> String {
    let causes = failure.chain().map(str::to_owned);
    let parts: Vec<String> = [failure.to_string()].into_iter().chain(causes).collect();
    parts.join(": ")
}
