//! Events of the world.

use patchbay_types::failure::Failure;
use serde_json::Value;

use crate::agent::Caller;

/// Event of a timer.
#[derive(Debug)]
pub(crate) enum Due {
    /// QEMU's reply to this client.
    Reply(u64, Value),
    /// The agent's reply.
    Answer(Caller, Result<Vec<u8>, Failure>),
    /// The guest's kernel detects a card.
    Detect(String),
    /// The guest has released a card.
    Release(String),
}

/// Next step of the world.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Choice {
    Thread(usize, usize),
    Request,
    Call(usize),
    Backend(usize),
    Waiting(usize),
    Timer((u64, u64)),
}
