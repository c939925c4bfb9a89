//! Connection to a port of the guest, on which ttrpc is spoken.

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};
use tokio::runtime::Runtime;
use ttrpc::r#async::Client;

use super::byte_budget::ByteBudget;
use super::{MAX_HANDSHAKE_BYTES, dial};
use crate::interrupt::Interrupt;

/// Connection with the runtime of its calls and the budget of their replies.
pub(super) struct Channel {
    pub(super) runtime: Runtime,
    pub(super) transport: Client,
    pub(super) budget: ByteBudget,
}

impl Channel {
    /// Connects to the first port of an endpoint on which the guest listens.
    ///
    /// # Errors
    /// [`Kind::Timeout`] and [`Kind::NotFound`] if nothing accepts the connection, and an interruption.
    pub(super) fn open(endpoint: &Endpoint, interrupt: &Interrupt) -> Result<Self, Failure> {
        let _phase = tracing::info_span!("agent").entered();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::of(Kind::Other, &error))?;
        let unreachable = |error| dial::unreachable(endpoint, &error);
        // A vsock proxy can fail to survive a process that ends in the middle of the attempt.
        let hold = interrupt.hold()?;
        let stream = dial::connect(endpoint);
        drop(hold);
        let stream = stream.map_err(unreachable)?;
        let budget = ByteBudget::new(MAX_HANDSHAKE_BYTES);
        // Socket and client register with the runtime when they are created.
        let transport = async { dial::socket(stream, budget.clone()).map(Client::new) };
        let transport = runtime.block_on(transport).map_err(unreachable)?;
        Ok(Self {
            runtime,
            transport,
            budget,
        })
    }
}
