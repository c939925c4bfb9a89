//! `wait`.

use patchbay_host::ops;
use patchbay_types::failure::Failure;

use crate::args::{GlobalArgs, WaitArgs};

/// Waits for the sandbox or its card, and prints nothing.
pub(super) fn run(global: &GlobalArgs, args: &WaitArgs) -> Result<String, Failure> {
    let find = || global.find_now(&args.sandbox);
    ops::await_condition(&find, &args.condition(), global.timeout)?;
    Ok(String::new())
}
