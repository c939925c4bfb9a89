//! Commands of `cni`.

use patchbay_types::failure::Failure;

use crate::args::CniCommand;
use crate::cni::install;

/// Runs the command.
pub(super) fn run(command: &CniCommand) -> Result<String, Failure> {
    match command {
        CniCommand::Install(args) => install::install(args)?,
        CniCommand::Uninstall(args) => install::uninstall(args)?,
        CniCommand::Wait => install::wait(),
    }
    Ok(String::new())
}
