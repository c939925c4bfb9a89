//! Options for lines on standard error.

use clap::{ArgAction, Args};

use super::GLOBAL_HEADING;
use crate::events::LogLevel;

/// Choice of the lines on standard error.
#[derive(Debug, Args)]
#[command(next_help_heading = GLOBAL_HEADING)]
pub(crate) struct LogArgs {
    /// In front of the command: print its phases on standard error; twice: details too
    // Not global: behind the ID of ipvs, -v is ipvsadm's.
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "log_level")]
    verbose: u8,
    /// Least important lines on standard error, besides that of a failure
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "LEVEL",
        default_value = "warn"
    )]
    log_level: LogLevel,
}

impl LogArgs {
    /// Returns the level that was asked for.
    pub(crate) fn level(&self) -> LogLevel {
        match self.verbose {
            0 => self.log_level,
            1 => LogLevel::Info,
            _ => LogLevel::Debug,
        }
    }
}
