//! The agent and the network managers beside it, as `examine` reports them.

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::Failure;
use patchbay_types::{CardTreatment, NetworkManager};
use serde::Serialize;

use crate::agent::{Agent, Greeting};
use crate::sandbox::Sandbox;

/// Agent. Version, kernel and features are empty if it does not reply.
#[derive(Debug, Clone, Serialize)]
pub struct AgentStatus {
    /// URL.
    pub address: String,
    /// Version of the agent.
    pub version: Option<String>,
    /// Kernel release of the guest.
    pub kernel: Option<String>,
    /// Features of the agent on that kernel.
    pub features: Vec<String>,
    /// Programs in the guest that configure links; `None` if unknown.
    pub managers: Option<Vec<ManagerStatus>>,
}

/// Program in the guest that configures links.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagerStatus {
    /// Name.
    pub name: String,
    /// Process id in the guest.
    pub pid: u32,
    /// Whether its configuration excludes patchbay's cards.
    pub excludes_cards: bool,
}

impl From<NetworkManager> for ManagerStatus {
    fn from(manager: NetworkManager) -> Self {
        Self {
            name: manager.name,
            pid: manager.pid,
            excludes_cards: manager.cards == CardTreatment::Excluded,
        }
    }
}

/// Replies of an agent; no list of managers if the agent can't make one.
pub(super) type Answers = (Greeting, Option<Vec<NetworkManager>>);

/// Asks the agent of a sandbox.
pub(super) fn query(sandbox: &Sandbox) -> Result<Answers, Failure> {
    let agent = Agent::connect(&sandbox.agent)?;
    Ok((agent.greeting()?, agent.managers()?))
}

impl AgentStatus {
    pub(super) fn new(address: &Endpoint, answers: Option<Answers>) -> Self {
        let (greeting, managers) = answers.unzip();
        let greeting = greeting.as_ref();
        let managers = managers.flatten();
        Self {
            address: address.to_string(),
            version: greeting.map(|greeting| greeting.version.clone()),
            kernel: greeting.map(|greeting| greeting.kernel.clone()),
            features: greeting.map_or_else(Vec::new, |greeting| greeting.features.clone()),
            managers: managers.map(|list| list.into_iter().map(ManagerStatus::from).collect()),
        }
    }
}
