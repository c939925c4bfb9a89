//! The only place that prints.

pub(crate) mod ipvs;
pub(crate) mod ipvs_json;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use patchbay_protocols::failure::Failure;
use patchbay_protocols::model::{Interface, InterfaceAddress, PciPath};
use serde::Serialize;

use crate::input::{AddIface, RawAddress, RawInterface};

/// What goes to standard output: one compact line of JSON, or text.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Output {
    /// `null`: nothing to tell, or a failure.
    Null,
    /// Nothing at all.
    #[serde(skip)]
    Nothing,
    /// Text for people or for another program, as it is.
    #[serde(skip)]
    Text(String),
    /// A document of ours.
    Document(serde_json::Value),
    /// A card that was plugged.
    Added(Added),
    /// The cards that are plugged.
    Listed(Vec<Listed>),
    /// A request that failed, as it was made.
    Echo(Echo),
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    output: Output,
    failure: Option<Failure>,
}

impl Ended {
    /// Well, with something to print.
    #[must_use]
    pub fn with(output: Output) -> Self {
        Self {
            output,
            failure: None,
        }
    }

    /// Badly; `output` is what the incumbent prints then.
    #[must_use]
    pub fn badly(output: Output, failure: Failure) -> Self {
        Self {
            output,
            failure: Some(failure),
        }
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
}

impl Added {
    pub(crate) fn new(request: &AddIface, path: &PciPath) -> Self {
        let parts = request.link.parts();
        Self {
            device: request.device.to_string(),
            name: parts.name.to_string(),
            addresses: parts.addresses.iter().map(Address::from).collect(),
            mtu: parts.mtu.get(),
            mac: parts.mac.to_string(),
            path: path.to_string(),
            queues: parts.queues.map(patchbay_protocols::model::QueuePairs::get),
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

/// Shows on a terminal how far a rule file has gone out; a script's log is spared.
pub(crate) fn progress(sent: usize, all: usize) {
    let mut terminal = io::stderr();
    if terminal.is_terminal() {
        let end = if sent == all {
            "; the guest applies them\n"
        } else {
            ""
        };
        // Nobody is left to be shown anything when the terminal has gone.
        let _ = write!(terminal, "\r{sent} of {all} rules sent{end}");
    }
}

/// Prints a command's end: JSON on standard output, a failure as one line on standard error.
/// Text of a guest inside the JSON is escaped by JSON, inside a failure by [`Failure`].
#[must_use]
pub fn finish(ended: Ended) -> ExitCode {
    let printed = match &ended.output {
        Output::Nothing => Ok(()),
        Output::Text(text) => io::stdout().write_all(text.as_bytes()),
        json => serde_json::to_string(json)
            .map_err(io::Error::from)
            .and_then(|line| writeln!(io::stdout(), "{line}")),
    };
    let Some(failure) = ended.failure else {
        return match printed {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    };
    let mut sentence = failure.to_string();
    for cause in failure.chain() {
        sentence = format!("{sentence}: {cause}");
    }
    // Nobody is left to be told that standard error is closed.
    let _ = writeln!(io::stderr(), "patchbay: {sentence}");
    ExitCode::from(failure.kind().exit_code())
}
