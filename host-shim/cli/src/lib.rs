//! The `patchbay` command: arguments, documents, commands and output on top of `patchbay-host`.

pub mod args;
mod commands;
#[cfg(fuzzing)]
pub mod fuzz;
mod input;
mod name_service;
pub mod output;
pub mod timings;

pub use commands::run;
