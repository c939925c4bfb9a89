//! Connections to the agent, which gets to know the cards of the machine if it needs them.

use patchbay_types::failure::Failure;

use crate::agent::{AnyAgent, CardIdentity};
use crate::hotplug::Inventory;
use crate::qmp::{Error, Session};
use crate::reach;
use crate::sandbox::{CardRecord, Sandbox};

/// Connects to the agent of a sandbox.
///
/// # Errors
/// [`Kind::NotYet`] if the machine doesn't run, its monitor gives no answer or its guest is starting;
/// [`Kind::Timeout`] and [`Kind::NotFound`] if the agent doesn't answer.
///
/// [`Kind::NotYet`]: patchbay_types::failure::Kind::NotYet
/// [`Kind::Timeout`]: patchbay_types::failure::Kind::Timeout
/// [`Kind::NotFound`]: patchbay_types::failure::Kind::NotFound
pub fn connect(sandbox: &Sandbox) -> Result<AnyAgent, Failure> {
    let agent = reach::connect(sandbox)?;
    Ok(with_cards_unless_busy(agent, sandbox))
}

/// Connects for a process that holds the lock, or if no process does.
pub(super) fn connect_alone(sandbox: &Sandbox) -> Result<AnyAgent, Failure> {
    let agent = reach::connect_alone(sandbox)?;
    Ok(with_cards_unless_busy(agent, sandbox))
}

/// Connects over a session that is open already.
pub(crate) fn connect_over(qmp: &mut Session, sandbox: &Sandbox) -> Result<AnyAgent, Failure> {
    let mut agent = reach::connect_over(qmp, sandbox)?;
    add_cards(&mut agent, qmp)?;
    Ok(agent)
}

fn add_cards(agent: &mut AnyAgent, qmp: &mut Session) -> Result<(), Error> {
    if agent.card_identity() == CardIdentity::Mac {
        let nics = Inventory::read_nics(qmp, CardRecord::DEVICE_PREFIX)?.into_iter();
        let cards = nics.filter_map(|nic| Some((nic.mac, nic.path?)));
        agent.set_cards(cards.collect());
    }
    Ok(())
}

/// While another client uses the monitor, no card is known.
fn with_cards_unless_busy(mut agent: AnyAgent, sandbox: &Sandbox) -> AnyAgent {
    if agent.card_identity() == CardIdentity::Mac
        && let Ok(mut qmp) = Session::connect_within(sandbox.monitor(), reach::SHORT_TIMEOUT)
        && let Err(error) = add_cards(&mut agent, &mut qmp)
    {
        tracing::debug!("the agent does not know the cards: {error}");
    }
    agent
}
