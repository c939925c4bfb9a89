//! Calls for static neighbors.

use patchbay_types::failure::Failure;
use patchbay_types::{Neighbor, NeighborPattern};
use patchbay_wire::proto::agent as wire;
use patchbay_wire::{Feature, convert};

use super::{Agent, Call, protocol_error};

const CALL: Call = Call::short(Feature::Neighbors);

impl Agent {
    /// Adds static neighbors, as one transaction.
    pub fn add_neighbors(&self, neighbors: &[Neighbor]) -> Result<(), Failure> {
        let request = convert::neighbors_request(neighbors);
        let call = |context| self.client.add_neighbors(context, &request);
        self.call(CALL, call).map(drop)
    }

    /// Deletes the static neighbors that match one of the patterns, as one transaction.
    pub fn delete_neighbors(&self, patterns: &[NeighborPattern]) -> Result<(), Failure> {
        let request = convert::delete_neighbors_request(patterns);
        let call = |context| self.client.delete_neighbors(context, &request);
        self.call(CALL, call).map(drop)
    }

    /// Lists the static neighbors.
    pub fn neighbors(&self) -> Result<Vec<Neighbor>, Failure> {
        let request = wire::ListNeighborsRequest::default();
        let call = |context| self.client.list_neighbors(context, &request);
        let reply = self.call(CALL.reading(), call)?;
        convert::neighbors(&reply).map_err(protocol_error)
    }
}
