//! Everything that is printed: JSON, tables, progress, timings and errors.

pub(crate) mod cards;
mod data;
pub(crate) mod events;
pub(crate) mod flows;
mod format;
pub(crate) mod ipvs;
pub(crate) mod ipvs_json;
pub(crate) mod ipvs_table;
mod json;
pub(crate) mod metrics;
pub(crate) mod neighbors;
pub(crate) mod network;
mod outcome;
mod progress;
pub(crate) mod report;
pub(crate) mod routes;
pub(crate) mod sandboxes;
mod stderr;
pub(crate) mod sysctls;
pub(crate) mod table;
pub(crate) mod traffic;
pub(crate) mod watch;

pub(crate) use data::DocumentFormat;
pub(crate) use format::OutputFormat;
pub(crate) use json::{json_line, json_line_or_null};
pub(crate) use outcome::{Outcome, unprinted};
pub(crate) use progress::{DrainProgressBar, RestoreProgress};
pub(crate) use stderr::print_error;
