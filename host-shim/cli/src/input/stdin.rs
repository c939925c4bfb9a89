//! Standard input of commands.

use std::io::{self, IsTerminal, StdinLock};

use crate::output::print_error;

/// Returns standard input. A person at a terminal reads that the command waits for `content`.
pub(crate) fn stdin(content: &str) -> StdinLock<'static> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        print_error(&format!(
            "patchbay: reading {content} from the terminal; Ctrl-D on an empty line ends it\n"
        ));
    }
    stdin.lock()
}
