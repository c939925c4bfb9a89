//! Calls about the network managers of the guest.

use patchbay_types::failure::Failure;
use patchbay_types::{MacAddr, NetworkManager};
use patchbay_wire::proto::agent as wire;
use patchbay_wire::{Feature, convert};

use super::{Agent, Call, protocol_error};

impl Agent {
    /// Marks a card before it is plugged, so that network managers exclude it. Does nothing in a
    /// guest that has no use for it.
    pub fn mark_card(&self, mac: MacAddr) -> Result<(), Failure> {
        if !self.greeting()?.has(Feature::MarkCard) {
            return Ok(());
        }
        let request = convert::mark_card_request(mac);
        let call = |context| self.client.mark_card(context, &request);
        self.call(Call::short(Feature::MarkCard), call).map(drop)
    }

    /// Lists the programs in the guest that configure links on their own; `None` if the agent can't.
    pub fn managers(&self) -> Result<Option<Vec<NetworkManager>>, Failure> {
        if !self.greeting()?.has(Feature::Managers) {
            return Ok(None);
        }
        let request = wire::ListManagersRequest::default();
        let call = |context| self.client.list_managers(context, &request);
        let reply = self.call(Call::short(Feature::Managers), call)?;
        convert::managers(&reply).map(Some).map_err(protocol_error)
    }
}
