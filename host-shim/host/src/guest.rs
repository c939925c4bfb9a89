//! Configuring cards in the guest.

use patchbay_types::failure::Failure;
use patchbay_types::{BootId, Interface, LinkSpec, PciPath};

use crate::agent::{AnyAgent, GuestWait};
use crate::card::{Backend, CardRequest};
use crate::sandbox::LinkRecord;

/// Guest of a sandbox, for the configuration of its cards.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) agent: AnyAgent,
    /// Present boot; `None` if the agent doesn't report it.
    pub(crate) boot: Option<BootId>,
    /// Paths of the cards that have lost their configuration. The names that the kernel gave them can
    /// be those of other cards.
    pub(crate) yielding: Vec<PciPath>,
}

impl Guest {
    /// Waits for the card at `path` and configures it.
    pub(crate) fn configure(
        &self,
        path: &PciPath,
        spec: &LinkSpec,
        wait: GuestWait,
    ) -> Result<Interface, Failure> {
        let configured = self.agent.configure(path, spec, &self.yielding, wait);
        configured.map_err(|failure| failure.context("could not configure the card in the guest"))
    }

    /// Adds the routes of a mirrored link.
    pub(crate) fn add_routes(&self, request: &CardRequest) -> Result<(), Failure> {
        match &request.backend {
            Backend::Link(link) if !link.routes.is_empty() => {
                let added = self.agent.add_routes(&link.routes);
                added.map_err(|failure| failure.context("could not add the routes of the link"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the journal's record of a configuration in the present boot.
    pub(crate) fn record(&self, spec: &LinkSpec) -> LinkRecord {
        LinkRecord {
            spec: spec.clone(),
            boot: self.boot.clone(),
        }
    }
}
