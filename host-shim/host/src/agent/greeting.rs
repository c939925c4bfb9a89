//! Handshake with an agent: its version, features and layouts (docs/compatibility.md).

use std::fmt;

use patchbay_codec::Bulk;
use patchbay_types::BootId;
use patchbay_types::failure::{Failure, Kind};
use patchbay_wire::proto::agent as wire;
use patchbay_wire::{API_VERSION, Feature, announced_layout};
use serde::Serialize;

/// Maximum number of features that are shown, and maximum length of a text in characters.
const MAX_SHOWN: usize = 64;

/// Program that serves as agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentKind {
    /// patchbay-agent.
    Patchbay,
    /// Kata's agent, in a guest without patchbay's.
    Kata,
}

impl AgentKind {
    /// Returns the parts of patchbay that the agent doesn't have.
    #[must_use]
    pub const fn lacks(self) -> &'static [&'static str] {
        match self {
            Self::Patchbay => &[],
            Self::Kata => &[
                "undo of addresses and routes",
                "removal of addresses, routes and neighbors",
                "queues",
                "ARP flags",
                "IPVS",
                "conntrack",
                "sysctl",
                "documents",
            ],
        }
    }
}

/// Name of the program.
impl fmt::Display for AgentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Patchbay => "patchbay-agent",
            Self::Kata => "kata-agent",
        })
    }
}

/// Handshake reply of an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Greeting {
    /// Version of the agent.
    pub version: String,
    /// Program.
    pub kind: AgentKind,
    /// Release of the guest's kernel, as `uname -r` prints it; `None` if the agent doesn't report it.
    pub kernel: Option<String>,
    /// Boot of the guest's kernel; `None` if the agent doesn't report it.
    pub boot: Option<BootId>,
    /// Names of the features, including those that only a newer host knows.
    pub features: Vec<String>,
    reply: wire::HelloReply,
}

impl Greeting {
    /// Decodes a handshake reply. The guest is not trusted, so texts are bounded and escaped.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] for another version of the API.
    pub(super) fn new(reply: wire::HelloReply) -> Result<Self, Failure> {
        let text = |text: &str| -> String { text.escape_debug().take(MAX_SHOWN).collect() };
        if reply.api_version != API_VERSION {
            let message = format!(
                "the agent speaks version {} of the interface and this patchbay version {API_VERSION}",
                reply.api_version
            );
            return Err(Failure::new(Kind::Unsupported, message));
        }
        let features = reply.features.iter().take(MAX_SHOWN);
        Ok(Self {
            version: text(&reply.agent_version),
            kind: AgentKind::Patchbay,
            kernel: Some(text(&reply.kernel)),
            boot: reply.boot_id.parse().ok(),
            features: features.map(|feature| text(feature)).collect(),
            reply,
        })
    }

    /// Describes Kata's agent by those features that it has in common with patchbay's.
    pub(super) fn of_kata(version: &str, features: &[Feature]) -> Self {
        let features: Vec<_> = features.iter().map(ToString::to_string).collect();
        let reply = wire::HelloReply {
            features: features.clone(),
            ..wire::HelloReply::default()
        };
        Self {
            version: version.to_owned(),
            kind: AgentKind::Kata,
            kernel: None,
            boot: None,
            features,
            reply,
        }
    }

    /// Returns whether the agent has a feature.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        feature.is_announced(&self.reply)
    }

    /// Checks that the agent has a feature.
    ///
    /// # Errors
    /// [`Kind::Unsupported`], naming the feature.
    pub fn require(&self, feature: Feature) -> Result<(), Failure> {
        if self.has(feature) {
            return Ok(());
        }
        Err(self.lacks(&format!("the feature '{feature}'")))
    }

    /// Checks that the agent reads a layout of bulk values.
    ///
    /// # Errors
    /// [`Kind::Unsupported`], naming the values and the layout.
    pub fn require_layout(&self, bulk: Bulk, layout: u32) -> Result<(), Failure> {
        if layout <= announced_layout(&self.reply, bulk) {
            return Ok(());
        }
        let additions = bulk.additions(layout);
        Err(self.lacks(&format!("layout {layout} of {bulk} ({additions})")))
    }

    fn lacks(&self, missing: &str) -> Failure {
        let version = &self.version;
        let message = format!("the sandbox's agent (version '{version}') lacks {missing}");
        Failure::new(Kind::Unsupported, message).with_cause("update the agent in the guest image")
    }
}
