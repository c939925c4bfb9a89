//! Arguments of `wait`.

use clap::{Args, ValueEnum};
use patchbay_host::ops::{CardGoal, Condition};
use patchbay_types::IfName;

use super::SandboxArg;

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// Wait for the card that was, or will be, plugged under this name, instead of the sandbox
    #[arg(long, value_name = "NAME")]
    card: Option<IfName>,
    /// State of the card [default: up]
    #[arg(long = "for", value_name = "STATE", requires = "card")]
    state: Option<StateArg>,
}

/// Words of `--for`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateArg {
    /// Its interface is configured, set up, and has a carrier
    Up,
    /// The same, and it has an address other than the kernel's link-local ones
    Address,
    /// It is unplugged, and its host device is restored
    Gone,
}

impl WaitArgs {
    /// Returns the condition to wait for.
    pub(crate) fn condition(&self) -> Condition {
        let goal = match self.state.unwrap_or(StateArg::Up) {
            StateArg::Up => CardGoal::Up,
            StateArg::Address => CardGoal::Address,
            StateArg::Gone => CardGoal::Gone,
        };
        match &self.card {
            Some(name) => Condition::Card(name.clone(), goal),
            None => Condition::Ready,
        }
    }
}
