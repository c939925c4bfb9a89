//! The `patchbay` command: plugs cards over QMP, forwards requests to the agent, and nothing more.
//!
//! One file per command in `command`; `sandbox` finds the machine, `qmp` talks to QEMU, `hotplug`
//! plugs and unplugs, `agent` calls the guest, `output` is the only place that prints.

pub mod agent;
pub mod cli;
mod command;
#[cfg(fuzzing)]
pub mod fuzz;
mod hotplug;
mod input;
mod names;
pub mod output;
mod qmp;
mod report;
mod sandbox;
pub mod stream;
pub mod timings;

pub use command::run;
