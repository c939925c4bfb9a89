//! The agent and the network managers beside it, as `examine` reports them.

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::Failure;
use patchbay_types::{AddressDetail, CardTreatment, NetworkManager};
use serde::Serialize;

use super::cards::{self, Card};
use super::nat_status;
use super::requirement::Requirement;
use crate::agent::{self, AgentKind, Greeting};
use crate::sandbox::{CardRecord, Sandbox};

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
    /// Program that serves as agent; `None` if none replies.
    pub program: Option<AgentKind>,
    /// Parts of patchbay that an agent of another program doesn't have.
    pub lacks: &'static [&'static str],
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

/// Replies of an agent.
pub(super) struct Answers {
    greeting: Greeting,
    /// `None` if the agent can't list them.
    managers: Option<Vec<NetworkManager>>,
    /// Requirements of IPVS that are not met.
    pub(super) ipvs: Vec<Requirement>,
    /// Cards with their part in the guest.
    cards: Vec<Card>,
}

/// Asks the agent of a sandbox, also for the guest's part of these cards.
pub(super) fn query(
    sandbox: &Sandbox,
    cards: Vec<Card>,
    records: &[CardRecord],
) -> Result<Answers, Failure> {
    let mut agent = agent::connect(&sandbox.agent, &sandbox.interrupt)?;
    let known = cards.iter();
    let known = known.filter_map(|card| Some((card.mac, card.path.clone()?)));
    agent.set_cards(known.collect());
    Ok(Answers {
        greeting: agent.greeting()?,
        managers: agent.managers()?,
        ipvs: nat_status::missing(&*agent)?,
        cards: if cards.is_empty() {
            cards
        } else {
            let interfaces = agent.interfaces(AddressDetail::Listed)?;
            cards::with_guest(cards, &interfaces, agent, records)?.0
        },
    })
}

/// Splits the replies into the status and the cards; both are empty without replies.
pub(super) fn split(address: &Endpoint, answers: Option<Answers>) -> (AgentStatus, Vec<Card>) {
    let mut status = AgentStatus {
        address: address.to_string(),
        program: None,
        version: None,
        kernel: None,
        features: Vec::new(),
        lacks: &[],
        managers: None,
    };
    let Some(answers) = answers else {
        return (status, Vec::new());
    };
    status.program = Some(answers.greeting.kind);
    status.lacks = answers.greeting.kind.lacks();
    let Greeting {
        version,
        kernel,
        features,
        ..
    } = answers.greeting;
    let managers = answers.managers;
    status.version = Some(version);
    status.kernel = kernel;
    status.features = features;
    status.managers = managers.map(|list| list.into_iter().map(ManagerStatus::from).collect());
    (status, answers.cards)
}
