//! The agent's log: JSON lines on standard output, which in a guest is the console.

use std::io;
use std::sync::Mutex;

use slog::{Drain, Logger, o};

/// Creates the root logger.
pub fn root() -> Logger {
    let json = slog_json::Json::default(io::stdout());
    Logger::root(Mutex::new(json).fuse(), o!())
}
