//! Connection to the agent of a guest: patchbay's, or Kata's in an image without patchbay's.

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::{Failure, Kind};

use super::kata::KataAgent;
use super::{Agent, AnyAgent};
use crate::interrupt::Interrupt;

/// Connects to patchbay's agent or, where nothing listens on its default ports, to Kata's.
///
/// # Errors
/// Those of [`Agent::connect`].
pub fn connect(endpoint: &Endpoint, interrupt: &Interrupt) -> Result<AnyAgent, Failure> {
    if endpoint.is_kata() {
        return Ok(Box::new(KataAgent::connect(endpoint, interrupt)?));
    }
    match (Agent::connect(endpoint, interrupt), endpoint.kata()) {
        (Ok(agent), _) => Ok(Box::new(agent)),
        (Err(failure), Some(kata)) if failure.kind() == Kind::NotFound => {
            let agent = KataAgent::connect(&kata, interrupt);
            Ok(Box::new(agent.map_err(|_| failure)?))
        }
        (Err(failure), _) => Err(failure),
    }
}
