//! The only place that prints.

use std::io::{self, Write};
use std::process::ExitCode;

use patchbay_protocols::failure::Failure;
use patchbay_protocols::model::{Interface, InterfaceAddress, PciPath};
use serde::Serialize;

use crate::input::{AddIface, RawAddress, RawInterface};
use crate::report::Report;

/// What goes to standard output: one compact line of JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Output {
    /// `null`: nothing to tell, or a failure.
    Null,
    /// A card that was plugged.
    Added(Added),
    /// The cards that are plugged.
    Listed(Vec<Listed>),
    /// A request that failed, as it was made.
    Echo(Echo),
    /// What a sandbox can do.
    Report(Box<Report>),
    /// Lines for people, printed as they are.
    Text(String),
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

/// Prints a command's end: JSON on standard output, a failure as one line on standard error.
/// Text of a guest inside the JSON is escaped by JSON, inside a failure by [`Failure`].
#[must_use]
pub fn finish(ended: Ended) -> ExitCode {
    let printed = match &ended.output {
        Output::Text(text) => write!(io::stdout(), "{text}"),
        output => serde_json::to_string(output)
            .map_err(io::Error::from)
            .and_then(|line| writeln!(io::stdout(), "{line}")),
    };
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

/// A failure and its causes as one sentence.
pub(crate) fn sentence(failure: &Failure) -> String {
    let causes = failure.chain().map(str::to_owned);
    let parts: Vec<String> = [failure.to_string()].into_iter().chain(causes).collect();
    parts.join(": ")
}
